"""The recipe for lung nodules in CT slices, each outlined by four radiologists (LIDC-IDRI).

A data folder of crops of 128 x 128, with labels NAME_rater0 to NAME_rater3 and a table of cases
that names the patient and the part of each.
"""

from __future__ import annotations

from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.recipes.variants import for_annotators


def lidc() -> Recipe:
    """Whole crops, which were cut around the nodule: its place helps to find it.

    The table of cases says which patients are for training, validation and test.
    """
    return for_annotators(
        Recipe(
            name="lidc",
            data=DataSettings(
                spatial_dims=2,
                size=(128, 128),
                channels=1,
                partition="given",
                folds=5,
                shift=0.0,
                whole=1.0,
                position=True,
            ),
            segmenter=CDALSettings(),
            training=TrainingSettings(
                steps=4000, batch=4, validate_every=250, checkpoint_every=250
            ),
        ),
        annotators=4,
    )
