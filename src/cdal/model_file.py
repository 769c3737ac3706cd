"""The model is one file: weights, and in the header all that is needed to use them. No pickle is read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import cdal
from cdal.errors import UserError
from cdal.factory import build_segmenter
from cdal.files import replacing
from cdal.recipe import Recipe, from_dict, to_dict
from cdal.segmenter import Segmenter

SUFFIX = ".safetensors"
_KEY = "cdal"
_SHIPPED = (Path(__file__).parent / "models", Path(__file__).parents[2] / "models")


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself.

    Attributes:
        recipe: with which it was trained.
        classes: names, the background first.
        image_channels: channels of one image.
        step: at which its weights were taken.
        scores: Dice of each class on the validation cases at that step.
        data: name of the data folder, names of the cases of each part, fingerprint of the training cases, checksums of all images.
        licence: of the training data, as its folder declares it.
        version: of cDAL.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    image_channels: int
    step: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    version: str = cdal.__version__


def save_model(path: Path, weights: dict[str, Tensor], header: ModelHeader) -> None:
    """Write a model file, whole or not at all; the same weights and header give the same bytes.

    Args:
        path: ends in `.safetensors`.
        weights: of the player that predicts.
        header: see `ModelHeader`.
    """
    values = {**header.__dict__, "recipe": to_dict(header.recipe)}
    content = save(
        {name: weight.detach().cpu().contiguous() for name, weight in _named_once(weights).items()},
        {_KEY: json.dumps(values, sort_keys=True)},
    )
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_header(path: Path) -> ModelHeader:
    """What a model file says of itself, without its weights.

    Raises:
        UserError: the file is no model of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no model file: {error}. Expected a .safetensors file written by cdal train.") from error
    if text is None:
        raise UserError(f"{path} holds weights, but no cDAL header. Expected a file written by cdal train.")
    try:
        values = json.loads(text)
        recipe = from_dict(values.pop("recipe"), f"{path}: its recipe")
        header = ModelHeader(recipe=recipe, **{**values, "classes": tuple(map(str, values["classes"]))})
        if len(header.classes) < 2 or not isinstance(header.image_channels, int):
            raise ValueError(f"classes {header.classes}, image_channels {header.image_channels!r}")
        return header
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its header cannot be read ({error}). Was it written by a newer version of cDAL?") from error


def load_model(path: Path, recipe: Recipe | None = None, device: str = "cpu") -> tuple[Segmenter, ModelHeader]:
    """The segmenter of a model file, ready to predict, and its header.

    Args:
        path: the file.
        recipe: used instead of the header's, where only settings that have no weights differ.
        device: where it goes.

    Raises:
        UserError: the file is no model of ours, or its weights do not fit its recipe.
    """
    header = read_header(path)
    segmenter = build_segmenter(recipe or header.recipe, header.image_channels, len(header.classes))
    predictor = segmenter.players()[segmenter.predictor]
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        needed = _named_once(predictor.state_dict())
        if len(weights) != len(needed):
            raise RuntimeError(f"expected {len(needed)} tensors; it holds {len(weights)}")
        predictor.load_state_dict({**predictor.state_dict(), **weights})
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: its weights do not fit its recipe: {error}") from error
    learned = dict(predictor.named_parameters())
    broken = any(weight.isnan().any() or (name in learned and weight.isinf().any()) for name, weight in weights.items())
    if broken:
        raise UserError(f"{path}: some of its weights are NaN or infinite. Train it again.")
    return segmenter.to(torch.device(device)).eval(), header


def _named_once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the further names of weights that a network knows by several, as layers that are used twice."""
    first: dict[tuple[int, torch.Size] | str, str] = {}
    for name, weight in weights.items():
        first.setdefault((weight.data_ptr(), weight.shape) if weight.numel() else name, name)
    return {name: weights[name] for name in first.values()}


def find_model(name: str | Path) -> Path:
    """The file that MODEL means: a file, a run folder, or the name of a shipped model.

    Raises:
        UserError: there is none; the message lists the shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / f"model{SUFFIX}").is_file():
        return path / f"model{SUFFIX}"
    shipped = shipped_models()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.is_dir():
        raise UserError(f"{path} holds no model{SUFFIX}. Expected a folder that cdal train wrote, after its first validation.")
    raise UserError(f"no model {name}: neither a file, nor a run folder, nor shipped. Shipped: {', '.join(shipped) or 'none'}.")


def shipped_models() -> dict[str, Path]:
    """Name and file of each model that came with the package."""
    return {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob(f"*{SUFFIX}"))}
