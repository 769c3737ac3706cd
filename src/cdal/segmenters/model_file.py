"""The model file: weights, and a header with everything needed to use them.

A file may hold an ensemble. The weights of its member number m then have names that begin with
`m.`. No pickle is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cdal.recipes.baselines import OwnSettings
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_bytes
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_header import KEY, ModelHeader, read_header
from cdal.segmenters.segmenter import Segmenter
from cdal.segmenters.trust import need_trusted


def save_model(path: Path, weights: dict[str, Tensor], header: ModelHeader) -> None:
    """Write a model file atomically. The same weights and header give the same bytes.

    Args:
        path: path of the file, ending in `.safetensors`.
        weights: weights of the player that predicts.
        header: header to store, see `ModelHeader`.
    """
    tensors = {
        name: weight.detach().cpu().contiguous() for name, weight in _named_once(weights).items()
    }
    save_tensors(path, tensors, header)


def save_tensors(path: Path, tensors: dict[str, Tensor], header: ModelHeader) -> None:
    """As `save_model`, for tensors in main memory under the names that the file has."""
    write_bytes(path, save(tensors, {KEY: header.to_json()}))


def load_model(
    path: Path, recipe: Recipe | None = None, device: str = "cpu"
) -> tuple[Segmenter, ModelHeader]:
    """Load the segmenter of a file with a single model, ready to predict, and its header.

    Args:
        path: path of the file.
        recipe: recipe to use instead of the header's. It may differ from it only in settings
            without weights.
        device: device for the segmenter.

    Raises:
        UserError: the file is not a cDAL model, it is an ensemble, its network is not trusted, its
            weights do not fit its recipe, or some of them are not finite.
    """
    header = read_header(path)
    if header.members:
        raise UserError(
            f"{path} is an ensemble of {len(header.members)} models; a single model is expected "
            "here. Give one of those that it was made of."
        )
    (segmenter,) = load_segmenters(path, header, [recipe or header.recipe], device)
    return segmenter, header


def load_segmenters(
    path: Path, header: ModelHeader, recipes: Sequence[Recipe], device: str = "cpu"
) -> list[Segmenter]:
    """Load the segmenters of a file: one, or those of an ensemble's members.

    Args:
        path: path of the file.
        header: its header.
        recipes: recipe of each segmenter, see `load_model`.
        device: device for the segmenters.

    Raises:
        UserError: as `load_model`, but an ensemble is what it may be.
    """
    for recipe in recipes:
        need_trusted(path, recipe)
    stored = stored_weights(path, header)
    for recipe, model, names in zip(recipes, header.models, stored, strict=True):
        _need_fitting(path, recipe, model, {inner: shape for inner, (_, shape) in names.items()})
    return [
        _load(path, recipe, model, {inner: name for inner, (name, _) in names.items()}).to(
            torch.device(device)
        )
        for recipe, model, names in zip(recipes, header.models, stored, strict=True)
    ]


def stored_weights(path: Path, header: ModelHeader) -> list[dict[str, tuple[str, tuple[int, ...]]]]:
    """What each model of a file has: by the weight's own name, its name in the file and its shape.

    Raises:
        UserError: the weights cannot be read, or one is of no member of the ensemble.
    """
    found: list[dict[str, tuple[str, tuple[int, ...]]]] = [{} for _ in header.models]
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                member, inner = name.split(".", 1) if header.members else ("0", name)
                if member not in map(str, range(len(found))):
                    raise ValueError(f"{name} belongs to none of its {len(found)} members")
                found[int(member)][inner] = (name, tuple(file.get_slice(name).get_shape()))
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: its weights cannot be read: {error}") from error
    return found


def _load(path: Path, recipe: Recipe, header: ModelHeader, names: Mapping[str, str]) -> Segmenter:
    """Load one segmenter; `names` has the name in the file of each of its weights."""
    segmenter = build_segmenter(recipe, header.image_channels, len(header.classes))
    predictor = segmenter.players()[segmenter.predictor]
    try:
        with safe_open(path, framework="pt") as file:
            weights = {inner: file.get_tensor(name) for inner, name in names.items()}
        needed = _named_once(predictor.state_dict())
        if len(weights) != len(needed):
            raise RuntimeError(f"expected {len(needed)} tensors; it holds {len(weights)}")
        predictor.load_state_dict({**predictor.state_dict(), **weights})
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: its weights do not fit its recipe: {error}") from error
    learned = dict(predictor.named_parameters())
    broken = any(
        weight.isnan().any() or (name in learned and weight.isinf().any())
        for name, weight in weights.items()
    )
    if broken:
        raise UserError(f"{path}: some of its weights are NaN or infinite. Train it again.")
    return segmenter.eval()


def _need_fitting(
    path: Path, recipe: Recipe, header: ModelHeader, stored: Mapping[str, tuple[int, ...]]
) -> None:
    """Check the shapes of a model's weights before any memory is taken for the network.

    The network is built without numbers, on PyTorch's meta device. The code of
    a network of your own may not allow that; it is compared when its weights are loaded.

    Raises:
        UserError: the file holds other weights than the recipe's network has.
    """
    most = 10 * len(stored) + 1000
    count = 0

    def counted(_module: nn.Module, _name: str, _parameter: nn.Parameter) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise RuntimeError(f"the network has more than {most} weights; {len(stored)} are there")

    hook = register_module_parameter_registration_hook(counted)
    try:
        with torch.device("meta"):
            network = build_segmenter(recipe, header.image_channels, len(header.classes))
        named = network.players()[network.predictor].state_dict(keep_vars=True)
    except UserError:
        raise
    except Exception as error:  # PyTorch refuses impossible sizes by many kinds of errors
        if isinstance(recipe.segmenter, OwnSettings) and count <= most:
            return
        raise UserError(f"{path}: its weights do not fit its recipe: {error}") from error
    finally:
        hook.remove()
    first = {id(weight): name for name, weight in reversed(named.items())}
    needed = {name: tuple(named[name].shape) for name in first.values()}
    differing = sorted(
        name for name in {**needed, **stored} if needed.get(name) != stored.get(name)
    )
    if differing:
        name = differing[0]
        raise UserError(
            f"{path}: its weights do not fit its recipe: {len(differing)} differ; {name} is "
            f"{stored.get(name, 'missing')} there, the recipe's is {needed.get(name, 'none')}."
        )


def _named_once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep each weight only under its first name; a layer that is used twice has several names."""
    first: dict[tuple[int, torch.Size] | str, str] = {}
    for name, weight in weights.items():
        first.setdefault((weight.data_ptr(), weight.shape) if weight.numel() else name, name)
    return {name: weights[name] for name in first.values()}
