"""A ladder of sizes for cDAL's fast network, from two cores to a data-centre GPU.

Like nnU-Net's planner, a size decides width, depth, patch and length together. S is the recipe as
it is, and the others are relative to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from cdal.recipes.cdal import CDALSettings, ImageUNetSettings
from cdal.recipes.probabilistic import ProbabilisticSettings
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError

_MOST_FEATURES = {2: 512, 3: 320}
"""Most features of a level by number of spatial axes, as in nnU-Net."""

_SMALLEST = 4
"""A level is added only if at least this many voxels of the patch remain along each axis."""


class Size(NamedTuple):
    """A rung of the ladder, relative to the recipe.

    Attributes:
        width: factor for the features of the image network and of the discriminator.
        levels: most levels that are added.
        denoiser: factor for the features of the denoiser.
        blocks: residual blocks of the denoiser that are added.
        steps: factor for the number of training steps; wider networks still improve when narrow
            ones do no more.
        side: longer side of a resized picture or of a window in pixels, if a recipe is derived.
        voxels: largest 3D patch in voxels, if a recipe is derived.
    """

    width: int
    levels: int
    denoiser: int
    blocks: int
    steps: int
    side: int
    voxels: int


SIZES = {
    "S": Size(1, 0, 1, 0, 1, 256, 2**17),
    "M": Size(2, 1, 2, 0, 2, 256, 2**18),
    "L": Size(2, 2, 3, 1, 3, 512, 2**19),
    "XL": Size(3, 2, 4, 2, 4, 512, 2**20),
}


def find_size(name: str) -> Size:
    """The size with this name.

    Raises:
        UserError: there is none; the message lists them.
    """
    if name.upper() not in SIZES:
        also = " `auto` is for cdal train." if name.lower() == "auto" else ""
        raise UserError(f"no size {name!r}. There are: {', '.join(SIZES)}.{also}")
    return SIZES[name.upper()]


def sized(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the networks and the length of a size. Its patch is unchanged.

    Raises:
        UserError: there is no such size, or the recipe's network is not cDAL's fast one.
    """
    size, settings, training = find_size(name), recipe.segmenter, recipe.training
    need_size(recipe)
    if not isinstance(settings, CDALSettings):
        raise UserError(f"--size needs a recipe with cdal; {recipe.name} has {settings.name}.")
    most = max(_MOST_FEATURES[recipe.data.spatial_dims], *settings.channels)
    channels = [min(most, size.width * features) for features in settings.channels]
    for _ in range(size.levels):
        factor = 2 ** len(channels)
        if any(side % factor or side // factor < _SMALLEST for side in recipe.data.size):
            break
        channels.append(min(most, 2 * channels[-1]))
    network = replace(
        settings,
        channels=tuple(channels),
        denoiser_channels=size.denoiser * settings.denoiser_channels,
        denoiser_blocks=size.blocks + settings.denoiser_blocks,
        discriminator_channels=tuple(size.width * n for n in settings.discriminator_channels),
    )
    steps = None if training.steps is None else size.steps * training.steps
    return replace(recipe, segmenter=network, training=replace(training, steps=steps))


def need_size(recipe: Recipe) -> None:
    """Require a network that the sizes are made for: cDAL's fast one, a control, or a relative.

    Raises:
        UserError: it is another one.
    """
    settings = recipe.segmenter
    fast = isinstance(settings, CDALSettings) and settings.generator == "fast"
    if not fast and not isinstance(settings, (ImageUNetSettings, ProbabilisticSettings)):
        raise UserError(
            f"--size is for cDAL's fast network and those that are built on it; the recipe "
            f"{recipe.name} has {settings.name}. Leave --size out, or change the fields of the "
            "segmenter."
        )
