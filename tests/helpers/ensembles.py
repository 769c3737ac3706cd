"""Models with random weights that vote together, as files and as a cross-validation's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cdal.datasets.check import check_folder
from cdal.datasets.partition import split_cases
from cdal.recipes import with_segmenter
from cdal.recipes.recipe import Recipe
from cdal.runtime.cost import keep_cost
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.recipes import small_recipe
from helpers.segmenters import shake

CLASSES = ("background", "lesion")


def member(
    path: Path,
    seed: int = 0,
    recipe: Recipe | None = None,
    classes: Sequence[str] = CLASSES,
    channels: int = 1,
    **header: Any,
) -> Path:
    """A model file with the random weights of a seed."""
    recipe = recipe or small_recipe(seed=seed)
    torch.manual_seed(seed)
    segmenter = build_segmenter(recipe, channels, len(classes))
    shake(segmenter)
    weights = segmenter.players()[segmenter.predictor].state_dict()
    save_model(path, weights, ModelHeader(recipe, tuple(classes), channels, **header))
    return path


def plain_recipe(**data: object) -> Recipe:
    """The small recipe for a network without random numbers."""
    recipe = with_segmenter(small_recipe(), "cdal-unet")
    settings = replace(recipe.segmenter, channels=(4, 6, 8))
    return replace(recipe, segmenter=settings, data=replace(recipe.data, **data))


def run(folder: Path, seed: int = 0, finished: bool = True, **header: Any) -> Path:
    """A run folder with a model."""
    member(folder / "model.safetensors", seed, **header)
    if finished:
        keep_cost(folder, {"steps": 2, "seconds": 3.0, "peak_memory": 0.5, "device": "cpu"})
    return folder


def told(data: Path, recipe: Recipe) -> dict[str, Any]:
    """What a training with this recipe on a data folder writes of its cases."""
    check = check_folder(data)
    return {
        **split_cases(check.folder, recipe.data).names(),
        "images": {fact.name: fact.digest for fact in check.facts},
    }


def of_fold(fold: int, **training: object) -> Recipe:
    """The small recipe of a fold."""
    recipe = small_recipe(**training)
    return replace(recipe, data=replace(recipe.data, fold=fold))
