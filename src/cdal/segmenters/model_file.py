"""The model file: weights, and a header with everything needed to use them.

No pickle is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

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
    segmenter = build_segmenter(recipe or header.recipe, header.image_channels, len(header.classes))
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


def _named_once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep each weight only under its first name; a layer that is used twice has several names."""
    first: dict[tuple[int, torch.Size] | str, str] = {}
    for name, weight in weights.items():
        first.setdefault((weight.data_ptr(), weight.shape) if weight.numel() else name, name)
    return {name: weights[name] for name in first.values()}
