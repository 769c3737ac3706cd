"""Recipes for MoNuSeg: nuclei in H&E tissue at 40x.

The set has 30 training and 14 test images of 1000 x 1000.
"""

from __future__ import annotations

from dataclasses import replace

from cdal.recipes.cdal import paper
from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.recipes.variants import paper_training


def monuseg() -> Recipe:
    """Nuclei at the images' own resolution, in overlapping windows.

    The test images are the set's own. 24 images are for training and 6 for choosing the weights.
    """
    return Recipe(
        name="monuseg",
        data=DataSettings(
            spatial_dims=2,
            size=(256, 256),
            channels=3,
            intensities="range",
            partition="given",
            folds=5,
            overlap=0.25,
            whole=1.0,
            protocols=("own-grid", "monuseg-512"),
            flips=(0, 1),
            mirror_votes=True,
            rotation=45.0,
            scaling=0.25,
            shift=16.0,
            intensity=0.5,
            stain=1.0,
        ),
        segmenter=CDALSettings(),
        training=TrainingSettings(steps=3000, batch=4, validate_every=250, checkpoint_every=250),
    )


def monuseg_paper() -> Recipe:
    """The paper's method: images at 512 x 512 in four tiles of 256, T = 4, five votes.

    Network and squared error are the paper's. Its colour jitter corresponds to `intensity`.
    """
    base = monuseg()
    return Recipe(
        name="monuseg-paper",
        data=replace(
            base.data,
            resize=(512, 512),
            overlap=0.0,
            protocols=("monuseg-512", "own-grid"),
            rotation=22.0,
            mirror_votes=False,
            stain=0.0,
        ),
        segmenter=replace(
            paper(),
            channels=(120, 120, 240, 240, 240),
            latent=100,
            timesteps=4,
            sampling_timesteps=4,
            attention_downsample=8,
        ),
        training=paper_training(
            TrainingSettings(steps=30000, batch=4, validate_every=1000, calibrate=False), 2e-4, 1e-4
        ),
    )
