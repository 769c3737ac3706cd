"""From a recipe to a segmenter."""

from __future__ import annotations

from cdal.recipes.recipe import Recipe
from cdal.segmenters.layers import group_instances
from cdal.segmenters.segmenter import Segmenter


def build_segmenter(recipe: Recipe, image_channels: int, classes: int, training: bool = False) -> Segmenter:
    """The segmenter that the recipe describes, with random weights.

    Args:
        recipe: its `data` and `segmenter` decide.
        image_channels: channels of one case; slices that are given as channels are added here.
        classes: K, with the background.
        training: whether to make the networks that only training needs.
    """
    image_channels = image_channels * (2 * recipe.data.neighbours + 1)
    segmenter = recipe.segmenter.build(recipe.data, image_channels, classes, training)
    group_instances(segmenter)
    return segmenter
