"""From settings to a segmenter."""

from __future__ import annotations

from cdal.diffusion.cdal import CDAL
from cdal.diffusion.discriminator import Discriminator
from cdal.diffusion.fast import FastGenerator, ImageUNet
from cdal.diffusion.generator import Generator
from cdal.diffusion.paper import PaperGenerator
from cdal.recipe import CDALSettings, Recipe
from cdal.segmenter import Segmenter, Supervised


def build_segmenter(recipe: Recipe, image_channels: int, classes: int, training: bool = False) -> Segmenter:
    """The segmenter that the recipe describes, with random weights.

    Args:
        recipe: its `data.spatial_dims` and `segmenter` decide.
        image_channels: channels of one case; slices that are given as channels are added here.
        classes: K, with the background.
        training: whether to make the networks that only training needs.
    """
    settings, dims = recipe.segmenter, recipe.data.spatial_dims
    image_channels = image_channels * (2 * recipe.data.neighbours + 1)
    if not isinstance(settings, CDALSettings):
        return Supervised(ImageUNet(dims, image_channels, classes, settings.channels), classes)
    label_channels = 1 if classes == 2 else classes
    needs_discriminator = training and (settings.attention != "none" or settings.adversarial > 0)
    discriminator = (
        Discriminator(
            dims,
            label_channels,
            settings.discriminator_channels,
            settings.embedding,
            settings.discriminator_fold,
            settings.attention_downsample,
        )
        if needs_discriminator
        else None
    )
    return CDAL(_generator(settings, dims, image_channels, label_channels), discriminator, classes, settings)


def _generator(settings: CDALSettings, dims: int, image_channels: int, label_channels: int) -> Generator:
    if settings.generator == "paper":
        return PaperGenerator(dims, image_channels, label_channels, settings.channels, settings.latent, settings.embedding)
    return FastGenerator(
        dims,
        image_channels,
        label_channels,
        settings.channels,
        settings.denoiser_channels,
        settings.denoiser_blocks,
        settings.latent,
        settings.embedding,
    )
