"""Tables 2 and 3 of the paper: cDAL, its controls and the compared systems, at an equal budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdal.experiments.experiment import Arm, Experiment
from cdal.inference.sampling import Sampling
from cdal.recipes import find_recipe
from cdal.recipes.systems import SYSTEMS, default_settings

_TOO_SLOW = ("segdiff",)
"""The published SegDiff takes 4 TFLOP for one mask of one slice; `segdiff-small` replaces it."""


def systems(recipe: str, budget: str, fields: Mapping[str, Any]) -> Experiment:
    """An experiment that compares all systems that can segment the recipe's data.

    Args:
        recipe: name of the recipe.
        budget: budget of every training, for example `2h`.
        fields: changed values of the recipe for all systems, by field name.
    """
    dims = find_recipe(recipe).data.spatial_dims
    suitable = [
        name
        for name in SYSTEMS
        if dims in default_settings(name).dims or (dims == 3 and 2 in default_settings(name).dims)
    ]
    return Experiment(
        f"systems-{recipe}",
        "What do the systems reach with the same time of training on the same data?",
        recipe,
        {name: Arm(name) for name in suitable if name not in _TOO_SLOW},
        fields,
        samplings={
            "cdal with 15 votes": Sampling(votes=15, timesteps=2),
            "cdal's coarse segmentation": Sampling(votes=1, timesteps=0),
        },
        seeds=(0,),
        budget=budget,
    )
