"""Every system in a form that is quick, and something to show it."""

from __future__ import annotations

from dataclasses import replace

import torch

from cdal.datasets.batch import Batch
from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.recipe import Recipe

VOLUMES_ONLY = ("unet-3d", "3d-ucaps")

_CDAL = {
    "channels": (8, 12, 16),
    "denoiser_channels": 16,
    "embedding": 16,
    "latent": 4,
    "discriminator_channels": (8, 12),
}
_IMAGE_UNET = {"channels": (8, 12, 16)}
_FIVE_LEVELS, _THREE_LEVELS, _TWO_ITERATIONS = (
    {"channels": (4, 6, 8, 8, 8)},
    {"channels": (4, 6, 8)},
    {"iterations": 2},
)
SMALL: dict[str, dict[str, object]] = {
    **dict.fromkeys(("cdal", "cdal-deterministic", "cdal-constant-z"), _CDAL),
    "cdal-paper": {
        "channels": (8, 12),
        "embedding": 16,
        "latent": 4,
        "discriminator_channels": (8, 12),
    },
    **dict.fromkeys(("cdal-unet", "mc-dropout"), _IMAGE_UNET),
    "prob-unet": {**_IMAGE_UNET, "latent": 2},
    "ssn": {**_IMAGE_UNET, "rank": 3, "samples": 4},
    **dict.fromkeys(("unet", "unet-3d", "unetpp"), _FIVE_LEVELS),
    **dict.fromkeys(("msu-net", "res-unet"), _THREE_LEVELS),
    "medt": {"width": 8, "heads": 2},
    "segdiff-small": {
        "multipliers": (1, 2),
        "encoder_blocks": 1,
        "timesteps": 4,
        "sampling_timesteps": 2,
    },
    **dict.fromkeys(("multi-segcaps", "3d-ucaps"), _TWO_ITERATIONS),
    "em-segcaps": {"types": (1, 2, 3, 4), "iterations": 2},
    "dynunet": {"features": 4},
}

APPLICABLE = [
    (data, system)
    for data in ("phantoms", "hippocampus")
    for system in SMALL
    if data == "hippocampus" or system not in VOLUMES_ONLY
]
"""Every system with every kind of data that it can see."""


def sized(data: str, size: tuple[int, ...]) -> Recipe:
    recipe = find_recipe(data)
    return replace(recipe, data=replace(recipe.data, size=size))


def small(data: str, system: str) -> Recipe:
    recipe = with_segmenter(sized(data, (32, 32) if data == "phantoms" else (16, 32, 16)), system)
    return replace(recipe, segmenter=replace(recipe.segmenter, **SMALL[system]))


def random_batch(recipe: Recipe, classes: int, count: int = 2) -> Batch:
    generator, data = torch.Generator().manual_seed(1), recipe.data
    image = torch.randn(count, 2 * data.neighbours + 1, *data.size, generator=generator)
    return Batch(
        image,
        torch.randint(classes, (count, *data.size), generator=generator),
        ("a", "b", "c", "d")[:count],
    )
