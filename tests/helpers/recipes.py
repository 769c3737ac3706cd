"""A recipe that is quick to train."""

from __future__ import annotations

from dataclasses import replace

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings


def small_recipe(**training: object) -> Recipe:
    """Everything that the default has, with few channels and few steps, on phantoms of 32 x 32."""
    settings = TrainingSettings(
        steps=20,
        batch=4,
        ema=0.9,
        learning_rate=2e-3,
        precision="32",
        validate_every=10,
        checkpoint_every=10,
    )
    return Recipe(
        name="small",
        data=DataSettings(spatial_dims=2, size=(32, 32), flips=(0, 1), shift=1.0),
        segmenter=CDALSettings(
            channels=(8, 12, 16),
            denoiser_channels=16,
            embedding=16,
            latent=4,
            discriminator_channels=(8, 12),
            r1_every=4,
        ),
        training=replace(settings, **training),
    )
