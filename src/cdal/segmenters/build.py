"""Build the segmenter that a recipe describes.

The module of each system has a builder. This is a function `build` with the signature
`(settings, data, image_channels, classes, training) -> Segmenter`:

    settings: settings of the segmenter.
    data: data settings of the recipe, such as `spatial_dims` and `size`.
    image_channels: number of channels that the network sees.
    classes: K, the number of classes with the background.
    training: whether to build the networks that only training needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from cdal.recipes import baselines, cdal, dynunet, probabilistic
from cdal.recipes.recipe import Recipe
from cdal.recipes.settings import SegmenterSettings
from cdal.segmenters.layers import group_instances
from cdal.segmenters.segmenter import Segmenter

BUILDERS: dict[type[SegmenterSettings], str] = {
    cdal.CDALSettings: "diffusion.cdal",
    cdal.ImageUNetSettings: "diffusion.fast",
    baselines.UNetSettings: "baselines.unet",
    baselines.UNet3DSettings: "baselines.unet",
    baselines.UNetPlusPlusSettings: "baselines.unetpp",
    baselines.MSUNetSettings: "baselines.msu_net",
    baselines.ResUNetSettings: "baselines.res_unet",
    baselines.MedTSettings: "baselines.medt",
    baselines.SegDiffSettings: "baselines.segdiff",
    baselines.SegDiffSmallSettings: "baselines.segdiff",
    baselines.MultiSegCapsSettings: "baselines.multi_segcaps",
    baselines.EMSegCapsSettings: "baselines.em_segcaps",
    baselines.UCaps3DSettings: "baselines.ucaps_3d",
    dynunet.DynUNetSettings: "baselines.dynunet",
    probabilistic.ProbUNetSettings: "baselines.prob_unet",
    probabilistic.SSNSettings: "baselines.ssn",
    probabilistic.MCDropoutSettings: "baselines.mc_dropout",
    baselines.OwnSettings: "baselines.own",
}
"""Module of the builder for each class of settings.

A module is imported when it is needed, because most of them import MONAI.
"""


def build_segmenter(
    recipe: Recipe, image_channels: int, classes: int, training: bool = False
) -> Segmenter:
    """Build the segmenter that the recipe describes, with random weights.

    Args:
        recipe: recipe; only its `data` and `segmenter` settings are used.
        image_channels: number of channels of one case. Channels for neighbouring slices and for
            positions are added here.
        classes: K, the number of classes with the background.
        training: whether to build the networks that only training needs.
    """
    image_channels = recipe.data.network_channels(image_channels)
    builder: Callable[..., Segmenter] = _module(recipe.segmenter).build
    segmenter = builder(recipe.segmenter, recipe.data, image_channels, classes, training)
    group_instances(segmenter)
    return segmenter


def need_available(settings: SegmenterSettings) -> None:
    """Check that the code of a segmenter is available; only a network of your own may be missing.

    Raises:
        UserError: the class cannot be imported, or it is not a network.
    """
    if isinstance(settings, baselines.OwnSettings):
        _module(settings).find_class(settings.name)


def _module(settings: SegmenterSettings) -> Any:
    return importlib.import_module(f"cdal.segmenters.{BUILDERS[type(settings)]}")
