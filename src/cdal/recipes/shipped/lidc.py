"""The recipe for lung nodules in CT slices, each outlined by four radiologists (LIDC-IDRI).

A data folder of crops of 128 x 128, with labels NAME_rater0 to NAME_rater3 and a table of cases
that names the patient and the part of each.
"""

from __future__ import annotations

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings


def lidc() -> Recipe:
    """Whole crops; a third of the patches are centred on the nodule, which is small.

    The table of cases says which patients are for training, validation and test.
    """
    return Recipe(
        name="lidc",
        data=DataSettings(
            spatial_dims=2,
            size=(128, 128),
            channels=1,
            partition="given",
            folds=5,
            shift=16.0,
            foreground=0.33,
        ),
        segmenter=CDALSettings(votes=16),
        training=TrainingSettings(steps=4000, batch=4, validate_every=250, checkpoint_every=250),
    )
