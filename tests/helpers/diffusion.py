"""The method of the paper in a form that is quick."""

from __future__ import annotations

from dataclasses import replace

import torch

from cdal.datasets.batch import Batch
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.cdal import CDAL
from cdal.segmenters.diffusion.fast import FastGenerator
from cdal.segmenters.diffusion.generator import Generator
from cdal.segmenters.diffusion.paper import PaperGenerator
from helpers.recipes import small_recipe

KINDS = ("raw", "normalised", "none", "constant", "shuffled")
"""Of attention."""

SIZES = {2: (16, 24), 3: (8, 16, 8)}
"""Of images with two and three axes."""


def make_cdal(classes: int = 2, **changes: object) -> CDAL:
    """The small recipe's segmenter with its discriminator, and other settings if asked for."""
    torch.manual_seed(0)
    recipe = small_recipe()
    segmenter = build_segmenter(
        replace(recipe, segmenter=replace(recipe.segmenter, **changes)), 1, classes, training=True
    )
    assert isinstance(segmenter, CDAL)
    return segmenter


def make_batch(classes: int = 2, count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(count, 1, 32, 32, generator=generator)
    label = torch.randint(classes, (count, 32, 32), generator=generator)
    return Batch(image, label, tuple(f"case{i}" for i in range(count)))


def make_generator(kind: str, dims: int, labels: int) -> Generator:
    torch.manual_seed(0)
    if kind == "fast":
        return FastGenerator(dims, 1, labels, (8, 12, 16), 16, 2, latent=4, embedding=16).eval()
    return PaperGenerator(dims, 1, labels, (8, 12), latent=4, embedding=16).eval()
