"""Dice on the validation cases, on the network's grid."""

from __future__ import annotations

from collections.abc import Sequence

from cdal.datasets.cases import Case
from cdal.evaluation.metrics import count
from cdal.inference.decision import decide
from cdal.inference.engine import Engine
from cdal.inference.voting import draw_votes
from cdal.recipes.recipe import Recipe


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
