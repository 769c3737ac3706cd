"""The recipe for phantoms: generated pictures with several simulated annotators.

They are used by the demonstration and by tests.
"""

from __future__ import annotations

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings


def phantoms() -> Recipe:
    """Small generated pictures; training takes three minutes on two cores."""
    return Recipe(
        name="phantoms",
        data=DataSettings(
            spatial_dims=2,
            size=(64, 64),
            folds=4,
            flips=(0, 1),
            rotation=30.0,
            scaling=0.1,
            shift=2.0,
            intensity=0.5,
        ),
        segmenter=CDALSettings(channels=(16, 32, 64)),
        training=TrainingSettings(
            steps=None,
            minutes=3.0,
            batch=16,
            ema=0.99,
            validate_every=100,
            checkpoint_every=100,
            learning_rate=2e-3,
        ),
    )
