"""Recipes for lungs in chest X-rays of Montgomery County and Shenzhen.

The complete set has 704 pictures.
"""

from __future__ import annotations

from dataclasses import replace

from cdal.recipes.cdal import paper
from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.recipes.variants import paper_training


def cxr() -> Recipe:
    """Lungs at 256 x 256, scored at the picture's own size.

    The five folds are stratified by hospital and finding.
    """
    return Recipe(
        name="cxr",
        data=DataSettings(
            spatial_dims=2,
            size=(256, 256),
            channels=1,
            resize=(256, 256),
            partition="cxr-five-fold",
            folds=5,
            whole=1.0,
            protocols=("own-grid", "cxr-256"),
            flips=(1,),
            mirror_votes=True,
            components=2,
            rotation=15.0,
            scaling=0.2,
            shift=16.0,
            collimation=0.5,
        ),
        segmenter=CDALSettings(),
        training=TrainingSettings(steps=3000, batch=4, validate_every=250, checkpoint_every=250),
    )


def cxr_paper() -> Recipe:
    """The paper's method: its three folds, T = 2, five votes, its network and squared error.

    The folds are not a partition: their test sets do not cover all pictures.
    """
    base = cxr()
    return Recipe(
        name="cxr-paper",
        data=replace(
            base.data,
            partition="cxr-paper-folds",
            protocols=("cxr-256", "own-grid"),
            flips=(),
            mirror_votes=False,
            components=0,
            rotation=22.0,
            scaling=0.25,
            intensity=0.0,
            collimation=0.0,
        ),
        segmenter=replace(
            paper(), channels=(56, 56, 112, 112), latent=100, attention_downsample=16
        ),
        training=paper_training(
            TrainingSettings(steps=30000, batch=4, validate_every=1000, calibrate=False), 2e-4, 1e-5
        ),
    )
