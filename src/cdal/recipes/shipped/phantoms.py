"""Phantoms: generated pictures with several simulated annotators, for the demonstration and for tests."""

from __future__ import annotations

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings


def phantoms() -> Recipe:
    """Small pictures, trained in three minutes on two cores."""
    return Recipe(
        name="phantoms",
        data=DataSettings(
            spatial_dims=2, size=(64, 64), folds=4, flips=(0, 1), rotation=30.0, scaling=0.1, shift=2.0, intensity=0.5
        ),
        segmenter=CDALSettings(channels=(16, 32, 64)),
        training=TrainingSettings(
            steps=None, minutes=3.0, batch=16, ema=0.99, validate_every=100, checkpoint_every=100, learning_rate=2e-3
        ),
    )
