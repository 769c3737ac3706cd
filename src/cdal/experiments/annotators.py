"""Experiments on data with several annotators, who are compared with the votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cdal.experiments.experiment import Arm, Ensemble, Experiment
from cdal.experiments.ingredients import ingredients
from cdal.inference.sampling import Sampling
from cdal.recipes import find_recipe
from cdal.recipes.cdal import CDALSettings

_TWIN = "cdal-deterministic"
_MEMBERS = (0, 1, 2, 3, 4)
"""Seeds of the ensemble's trainings."""

_SYSTEMS = ("cdal", _TWIN, "dynunet", "mc-dropout", "prob-unet", "ssn")

_COUNTS = (1, 2, 4)
"""Numbers of steps and of training votes to try."""


def annotators(recipe: str, budget: str, fields: Mapping[str, Any]) -> Experiment:
    """An experiment that compares the systems that draw votes, and plain networks.

    All but `dynunet` have the same image network. An ensemble of plain networks votes, too.

    Args:
        recipe: name of a recipe for data with several annotators.
        budget: budget of every training, for example `2000steps`.
        fields: changed values of the recipe for all systems, by field name.
    """
    return Experiment(
        f"annotators-{recipe}",
        "Which system's votes are distributed as the annotators are, and what does that cost in "
        "Dice?",
        recipe,
        {name: Arm(name) for name in _SYSTEMS},
        fields,
        ensembles={f"five of {_TWIN}": Ensemble(_TWIN, _MEMBERS)},
        budget=budget,
    )


def ingredients_of_votes(recipe: str, steps: int, fields: Mapping[str, Any]) -> Experiment:
    """The experiment `ingredients`, with other numbers of timesteps and of training votes.

    What the recipe has by itself is no variant. One training vote has no energy score; that is the
    variant "no energy score". Variants of the losses, and of what the network sees, are added.

    Args:
        recipe: name of a recipe for data with several annotators, whose images are large enough
            for an attention map at a sixteenth of their resolution.
        steps: number of steps of every training.
        fields: changed values of the recipe for all variants, by field name.
    """
    settings = find_recipe(recipe).segmenter
    assert isinstance(settings, CDALSettings)
    trained, sampled = settings.timesteps, settings.sampling_timesteps
    in_training = {
        f"T of {T}": Arm(fields={"segmenter.timesteps": T, "segmenter.sampling_timesteps": T})
        for T in _COUNTS
        if not trained == sampled == T
    }
    training_votes = {
        f"{votes} training votes": Arm(fields={"segmenter.training_votes": votes})
        for votes in _COUNTS[1:]
        if votes != settings.training_votes
    }
    losses = {
        "soft Dice instead of the IoU's energy score": Arm(
            fields={"segmenter.iou_energy": 0, "segmenter.dice": 1}
        ),
        "the IoU's energy score alone": Arm(fields={"segmenter.energy": 0}),
    }
    data = {
        "one annotator in a step": Arm(fields={"training.annotators": 1}),
        "no positions": Arm(fields={"data.position": False}),
    }
    in_sampling = {
        f"sampled in {T} step{'s' if T > 1 else ''}": Sampling(timesteps=T)
        for T in _COUNTS
        if sampled != T and trained % T == 0
    }
    base = ingredients(recipe, steps, fields, large=True)
    return replace(
        base,
        arms={**base.arms, **in_training, **training_votes, **losses, **data},
        samplings={"its coarse segmentation": Sampling(votes=1, timesteps=0), **in_sampling},
    )
