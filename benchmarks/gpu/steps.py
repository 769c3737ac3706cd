"""Training steps on a GPU, with and without recording."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from cdal.experiments.speed.steps import NoiseTraining
from cdal.experiments.speed.timing import gigaflops, interleaved
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe, override
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import parameters


def classes_of(name: str) -> int:
    """Number of classes K of a recipe's own data, background included."""
    return 3 if name.startswith("hippocampus") else 2


def built(name: str, channels: int, device: str) -> tuple[Any, Recipe]:
    """Build the segmenter of a recipe with random weights."""
    recipe = find_recipe(name)
    torch.manual_seed(0)
    return build_segmenter(recipe, channels, classes_of(name)).to(device), recipe


def training(name: str, shape: tuple[int, ...], device: str, precision: str) -> NoiseTraining:
    """Training steps of a recipe on patches of this shape, `[C, *S]`, of noise."""
    recipe = find_recipe(name)
    recipe = override(recipe, {"data.size": shape[1:], "training.precision": precision})
    return NoiseTraining(recipe, shape[0], classes_of(name), torch.device(device))


def training_step(
    name: str, shape: tuple[int, ...], rounds: int, device: str, tiny: bool
) -> dict[str, Any]:
    """Time of a training step of all players in milliseconds, with and without CUDA graphs."""
    kinds: dict[str, tuple[str, bool, bool]] = {"float32": ("32", False, True)}
    if not tiny:
        kinds = {"bf16": ("bf16", False, True), "bf16, recorded": ("bf16", True, True)}
        kinds |= {
            "float32, recorded": ("32", True, True),
            "TF32, recorded, any order": ("32", True, False),
        }
    taken, operations, about = {}, 0.0, dict[str, Any]()
    for kind, (precision, recorded, exact) in kinds.items():
        # One kind at a time, because a recording keeps the memory of its step.
        steps = training(name, shape, device, precision)
        call = steps.rounds(recorded, exact)
        taken[kind] = 1000 * interleaved({kind: call}, rounds, device=device)[kind] / steps.every
        operations = operations or gigaflops(call) / steps.every
        about = {"parameters": parameters(steps.segmenter)}
        del call, steps
        free(device)
    return {
        "batch": find_recipe(name).training.batch,
        **about,
        "GFLOP a step": operations,
        "ms a step": taken,
    }


def free(device: str) -> None:
    """Free memory that is no longer referenced."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def training_of(
    name: str, shapes: dict[str, tuple[int, ...]], device: str, tiny: bool
) -> Callable[[], object]:
    """A function that takes one round of training steps without CUDA graphs."""
    return training(name, shapes[name], device, "32" if tiny else "bf16").rounds()
