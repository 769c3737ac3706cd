"""Hippocampus MRI of the Medical Segmentation Decathlon (Task 04): 260 volumes, anterior and posterior part."""

from __future__ import annotations

from dataclasses import replace

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.recipes.variants import with_segmenter


def hippocampus() -> Recipe:
    """Whole volumes in 3D. Four folds: fold k is the test, fold k + 1 the validation part, the other 130 volumes train."""
    return Recipe(
        name="hippocampus",
        data=DataSettings(spatial_dims=3, size=(40, 56, 40), spacing=(1.0, 1.0, 1.0), folds=4, flips=(0,)),
        segmenter=CDALSettings(),
        training=TrainingSettings(steps=6000, batch=2, validate_every=250, checkpoint_every=250),
    )


def hippocampus_slices() -> Recipe:
    """Axial slices with one neighbour on each side as channels (2.5D)."""
    volume = hippocampus()
    return replace(
        volume,
        name="hippocampus-slices",
        data=replace(volume.data, spatial_dims=2, size=(40, 56), neighbours=1, slice_axis=2, shift=2.0),
        segmenter=CDALSettings(channels=(32, 64, 128, 256)),
        training=replace(volume.training, batch=32),
    )


def hippocampus_paper() -> Recipe:
    """The paper's way: single slices of 32 x 32, the paper's network, raw attention, squared error alone."""
    paper = with_segmenter(hippocampus(), "cdal-paper")
    training = replace(paper.training, calibrate=False)
    return replace(paper, name="hippocampus-paper", data=replace(paper.data, size=(32, 32)), training=training)
