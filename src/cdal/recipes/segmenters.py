"""The segmenters that a recipe can be given by name."""

from __future__ import annotations

from dataclasses import replace

from cdal.errors import UserError
from cdal.recipe import CDALSettings, Recipe, SegmenterSettings, UNetSettings

PAPER = CDALSettings(
    generator="paper",
    channels=(36, 72, 72),
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
"""The method to the letter: the raw attention map and the squared error alone; for the hippocampus as large as the authors'."""

SEGMENTERS: dict[str, str] = {
    "cdal": "few-step conditional diffusion, encode once and denoise at a quarter of the resolution (the default)",
    "cdal-paper": "Hejrati et al., MICCAI 2024, to the letter: raw attention map, squared error alone",
    "unet": "the image network of cdal alone, with Dice and cross-entropy",
}


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
