"""Shipped recipes: functions that return a `Recipe`, one file for each data set."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cdal.errors import UserError
from cdal.recipe import CDALSettings, Recipe, SegmenterSettings, UNetSettings, load_recipe
from cdal.recipes.hippocampus import hippocampus, hippocampus_slices
from cdal.recipes.phantoms import phantoms

RECIPES: dict[str, Callable[[], Recipe]] = {
    "hippocampus": hippocampus,
    "hippocampus-slices": hippocampus_slices,
    "phantoms": phantoms,
}

PAPER = CDALSettings(
    generator="paper",
    channels=(64, 128, 128),
    latent=50,
    embedding=256,
    timesteps=2,
    sampling_timesteps=2,
    discriminator_channels=(64, 128, 128),
    discriminator_fold=1,
    attention="raw",
    attention_downsample=4,
    energy=0.0,
    dice=0.0,
    cross_entropy=0.0,
    coarse=0.0,
    adversarial=0.0,
    training_votes=1,
    recycling=0.0,
)
"""The method to the letter: the raw attention map and the squared error alone."""

SEGMENTERS: dict[str, str] = {
    "cdal": "few-step conditional diffusion, encode once and denoise at a quarter of the resolution (the default)",
    "cdal-paper": "Hejrati et al., MICCAI 2024, to the letter: raw attention map, squared error alone",
    "unet": "the image network of cdal alone, with Dice and cross-entropy",
}


def find_recipe(name: str) -> Recipe:
    """The recipe of a shipped name or of a YAML file.

    Raises:
        UserError: there is none; the message lists the shipped ones.
    """
    if name in RECIPES:
        return RECIPES[name]()
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return load_recipe(path)
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(f"no recipe {name!r}.{hint} Shipped: {', '.join(RECIPES)}; or give a YAML file.")


def with_segmenter(recipe: Recipe, name: str) -> Recipe:
    """The recipe with another segmenter, in the form that suits the recipe's data.

    Raises:
        UserError: there is no such segmenter.
    """
    if name not in SEGMENTERS:
        raise UserError(f"no segmenter {name!r}. There are: {', '.join(SEGMENTERS)}.")
    if name == "cdal":
        settings: SegmenterSettings = recipe.segmenter if isinstance(recipe.segmenter, CDALSettings) else CDALSettings()
    elif name == "cdal-paper":
        settings = PAPER
    else:
        settings = UNetSettings(channels=recipe.segmenter.channels, votes=2 ** len(recipe.data.flips))
    return replace(recipe, segmenter=settings)
