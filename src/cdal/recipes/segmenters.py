"""The segmenters that a recipe can be given by name."""

from __future__ import annotations

from dataclasses import replace

from cdal.errors import UserError
from cdal.recipe import CDALSettings, Recipe, TrainingSettings, UNetSettings

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
    r1_every=10,
)
"""The method to the letter: the raw attention map and the squared error alone. For the hippocampus as large as the authors'."""

SEGMENTERS: dict[str, str] = {
    "cdal": "few-step conditional diffusion, encode once and denoise at a quarter of the resolution (the default)",
    "cdal-paper": "Hejrati et al., MICCAI 2024: the paper's network and losses, slice by slice",
    "unet": "the image network of cdal alone, with Dice and cross-entropy",
}

_SLICES_FOR_A_VOLUME = 16
"""Slices in a batch of a 2D network for each volume in a batch of a 3D one."""


def with_segmenter(recipe: Recipe, name: str) -> Recipe:
    """The recipe with another segmenter, in the form that suits the recipe's data.

    Raises:
        UserError: there is no such segmenter.
    """
    if name not in SEGMENTERS:
        raise UserError(f"no segmenter {name!r}. There are: {', '.join(SEGMENTERS)}.")
    if name == "cdal-paper":
        return _paper(recipe)
    if name == "unet":
        votes = 2 ** len(recipe.data.flips)
        return replace(recipe, segmenter=UNetSettings(channels=recipe.segmenter.channels, votes=votes))
    settings = recipe.segmenter
    ours = isinstance(settings, CDALSettings) and settings.generator == "fast"
    return recipe if ours else replace(recipe, segmenter=CDALSettings())


def _paper(recipe: Recipe) -> Recipe:
    """The paper's method on the recipe's data: single slices, no flips, its learning rates and momenta.

    Not the paper's: gradients are clipped, the learning rate follows a cosine, patches are rotated and scaled as the recipe says.
    """
    data, training = recipe.data, recipe.training
    if data.spatial_dims == 3:
        size = tuple(s for axis, s in enumerate(data.size) if axis != data.slice_axis)
        data = replace(data, spatial_dims=2, size=size)
        training = replace(training, batch=training.batch * _SLICES_FOR_A_VOLUME)
    return replace(
        recipe,
        data=replace(data, neighbours=0, flips=()),
        segmenter=PAPER,
        training=paper_training(training, 1.6e-4, 1.25e-4),
    )


def paper_training(training: TrainingSettings, learning_rate: float, discriminator_learning_rate: float) -> TrainingSettings:
    """The paper's optimiser in place of ours; its learning rates differ by data set."""
    return replace(
        training,
        learning_rate=learning_rate,
        discriminator_learning_rate=discriminator_learning_rate,
        betas=(0.5, 0.9),
        weight_decay=0.0,
        precision="32",
        validation_votes=1,
    )
