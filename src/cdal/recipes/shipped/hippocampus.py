"""Recipes for hippocampus MRI of the Medical Segmentation Decathlon (Task 04).

The set has 260 volumes; the classes are the anterior and the posterior part.
"""

from __future__ import annotations

from dataclasses import replace

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.recipes.variants import with_segmenter


def hippocampus() -> Recipe:
    """Whole volumes in 3D, in four folds.

    Part k is for the test, part k + 1 for validation; the other 130 volumes are for training.
    """
    return Recipe(
        name="hippocampus",
        data=DataSettings(
            spatial_dims=3, size=(40, 56, 40), spacing=(1.0, 1.0, 1.0), folds=4, flips=(0,)
        ),
        segmenter=CDALSettings(),
        training=TrainingSettings(steps=6000, batch=2, validate_every=250, checkpoint_every=250),
    )


def hippocampus_slices() -> Recipe:
    """Axial slices with one neighbouring slice on each side as channels (2.5D)."""
    volume = hippocampus()
    return replace(
        volume,
        name="hippocampus-slices",
        data=replace(
            volume.data, spatial_dims=2, size=(40, 56), neighbours=1, slice_axis=2, shift=2.0
        ),
        segmenter=CDALSettings(channels=(32, 64, 128, 256)),
        training=replace(volume.training, batch=32),
    )


def hippocampus_paper() -> Recipe:
    """The paper's method: slices of 32 x 32, its network, raw attention, only the squared error."""
    paper = with_segmenter(hippocampus(), "cdal-paper")
    training = replace(paper.training, calibrate=False)
    return replace(
        paper, name="hippocampus-paper", data=replace(paper.data, size=(32, 32)), training=training
    )
