"""The model file: weights, and a header with everything needed to use them.

No pickle is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cdal.recipes.baselines import OwnSettings
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_header import KEY, ModelHeader, read_header
from cdal.segmenters.segmenter import Segmenter


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
    content = save(tensors, {KEY: header.to_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_model(
    path: Path, recipe: Recipe | None = None, device: str = "cpu"
) -> tuple[Segmenter, ModelHeader]:
    """Load the segmenter of a model file, ready to predict, and its header.

    Args:
        path: path of the file.
        recipe: recipe to use instead of the header's. It may differ from it only in settings
            without weights.
        device: device for the segmenter.

    Raises:
        UserError: the file is not a cDAL model, its weights do not fit its recipe, or some of them
            are not finite.
    """
    header = read_header(path)
    recipe = recipe or header.recipe
    _need_fitting(path, recipe, header)
    segmenter = build_segmenter(recipe, header.image_channels, len(header.classes))
    predictor = segmenter.players()[segmenter.predictor]
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
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
    return segmenter.to(torch.device(device)).eval(), header


def _need_fitting(path: Path, recipe: Recipe, header: ModelHeader) -> None:
    """Check the shapes of the weights in a file before any memory is taken for the network.

    The network is built without numbers, on PyTorch's meta device. The code of
    a network of your own may not allow that; it is compared when its weights are loaded.

    Raises:
        UserError: the file holds other weights than the recipe's network has.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            stored = {
                name: tuple(file.get_slice(name).get_shape())
                for name in file.keys()  # noqa: SIM118 (not a mapping)
            }
    except SafetensorError as error:
        raise UserError(f"{path}: its weights cannot be read: {error}") from error
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
