"""Dice and temperature on the validation cases, on the network's grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from cdal.datasets.cases import Case
from cdal.evaluation.calibration import fit_temperature
from cdal.evaluation.metrics import count
from cdal.inference.decision import decide
from cdal.inference.engine import Engine
from cdal.inference.voting import draw_votes
from cdal.recipes.recipe import Recipe

T = TypeVar("T")


def validation_dice(
    engine: Engine, cases: Sequence[Case], classes: Sequence[str], recipe: Recipe
) -> dict[str, float]:
    """Dice of each class except the background, on the network's grid.

    It is averaged over cases, and over annotators.
    """
    totals = dict.fromkeys(classes[1:], 0.0)
    for case in cases:
        rng = engine.generator(recipe.training.seed, case.name)
        votes = draw_votes(
            engine, case.image.numpy(), recipe, recipe.training.validation_votes, rng
        )
        mask = decide(votes.mean(axis=0), recipe.data.components)
        for k, name in enumerate(classes[1:], start=1):
            by_annotator = [count(mask == k, label.numpy() == k).dice for label in case.labels]
            totals[name] += sum(by_annotator) / len(by_annotator)
    return {name: total / len(cases) for name, total in totals.items()}


def validation_temperature(engine: Engine, cases: Sequence[Case], recipe: Recipe) -> float:
    """Fit the temperature on the validation cases, on the network's grid; see `fit_temperature`.

    The recipe's number of votes is used. The result is rounded to thousandths.
    """

    def segmented(case: Case) -> np.ndarray:
        rng = engine.generator(recipe.training.seed, case.name)
        return draw_votes(engine, case.image.numpy(), recipe, recipe.segmenter.votes, rng).mean(
            axis=0
        )

    return round(fit_temperature((segmented(case), case.labels.numpy()) for case in cases), 3)


def some_of(cases: Sequence[T], count: int | None) -> Sequence[T]:
    """Select `count` of the cases, evenly spaced; all if there are no more, or if it is `None`."""
    if count is None or count >= len(cases):
        return cases
    return [cases[i * len(cases) // count] for i in range(count)]
