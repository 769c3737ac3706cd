"""From a recipe to a segmenter: what builds each system.

A builder is the function `build` of a system's module, `(settings, data, image_channels, classes, training) -> Segmenter`:

    settings: of the segmenter.
    data: its `spatial_dims` and, for networks that depend on it, its `size`.
    image_channels: that the network sees.
    classes: K, with the background.
    training: whether to make the networks that only training needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from cdal.recipes import baselines, cdal
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
    baselines.DynUNetSettings: "baselines.dynunet",
    baselines.OwnSettings: "baselines.own",
}
"""The module with the builder of each kind of settings, imported when it is needed: most of them import MONAI."""


def build_segmenter(recipe: Recipe, image_channels: int, classes: int, training: bool = False) -> Segmenter:
    """The segmenter that the recipe describes, with random weights.

    Args:
        recipe: its `data` and `segmenter` decide.
        image_channels: channels of one case; slices that are given as channels are added here.
        classes: K, with the background.
        training: whether to make the networks that only training needs.
    """
    image_channels = image_channels * (2 * recipe.data.neighbours + 1)
    builder: Callable[..., Segmenter] = _module(recipe.segmenter).build
    segmenter = builder(recipe.segmenter, recipe.data, image_channels, classes, training)
    group_instances(segmenter)
    return segmenter


def need_available(settings: SegmenterSettings) -> None:
    """Refuse a segmenter whose code is not there: a network of your own that cannot be imported.

    Raises:
        UserError: it is not.
    """
    if isinstance(settings, baselines.OwnSettings):
        _module(settings).find_class(settings.name)


def _module(settings: SegmenterSettings) -> Any:
    return importlib.import_module(f"cdal.segmenters.{BUILDERS[type(settings)]}")
