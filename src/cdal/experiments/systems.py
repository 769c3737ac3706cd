"""Tables 2 and 3 of the paper: cDAL, its controls and the systems it was compared with, at an equal budget."""

from __future__ import annotations

from cdal.experiments.experiment import Arm, Experiment, sampled
from cdal.recipes import find_recipe
from cdal.recipes.systems import SYSTEMS, default_settings

_TOO_SLOW = ("segdiff",)
"""Its published size takes 4 TFLOP for one mask of one slice; `segdiff-small` stands for it."""


def systems(recipe: str, budget: str, *fields: str) -> Experiment:
    """Every system that can see the recipe's data, with some of the recipe's fields changed."""
    dims = find_recipe(recipe).data.spatial_dims
    seen = [name for name in SYSTEMS if dims in default_settings(name).dims or (dims == 3 and 2 in default_settings(name).dims)]
    return Experiment(
        f"systems-{recipe}",
        "What do the systems reach with the same time of training on the same data?",
        recipe,
        {name: Arm(name) for name in seen if name not in _TOO_SLOW},
        fields,
        samplings={"cdal with 15 votes": sampled(2, 15), "cdal's coarse segmentation": sampled(0, 1)},
        seeds=(0,),
        budget=budget,
    )
