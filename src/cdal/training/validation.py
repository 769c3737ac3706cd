"""Scores on the validation cases, on the network's grid, and which weights are best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cdal.datasets.cases import Case
from cdal.evaluation.agreement import distances
from cdal.evaluation.metrics import count
from cdal.inference.decision import classes_of_votes, decide
from cdal.inference.engine import Engine
from cdal.inference.voting import draw_votes
from cdal.recipes.recipe import Recipe
from cdal.runtime.execution.ranks import gathered


@dataclass(frozen=True)
class Validation:
    """Scores on the validation cases.

    Attributes:
        dice: Dice of each class except the background, averaged over cases and annotators.
        energy: energy score of the votes, averaged over cases, see `energy_score`; `None` if no
            case has several annotators.
    """

    dice: dict[str, float]
    energy: float | None

    @property
    def mean(self) -> float:
        """Mean Dice of the classes."""
        return sum(self.dice.values()) / len(self.dice)

    @property
    def rank(self) -> float:
        """The number that is highest for the best weights.

        Of several annotators no single mask can be right; then it is the energy score that counts,
        which is lowest for votes that are distributed as the annotators are.
        """
        return self.mean if self.energy is None else -self.energy


def validate(
    engine: Engine,
    cases: Sequence[Case],
    classes: Sequence[str],
    recipe: Recipe,
    rank: int = 0,
    ranks: int = 1,
) -> Validation:
    """Segment the validation cases and score them.

    Args:
        engine: engine with the weights.
        cases: cases to score, the same on every rank. Each rank takes every so manyth one.
        classes: names of the classes, the background first.
        recipe: recipe of the training.
        rank: number of this rank.
        ranks: number of ranks.
    """
    own = gathered(
        [_scored(engine, cases[i], len(classes), recipe) for i in range(rank, len(cases), ranks)]
    )
    dice = {
        name: sum(scores.dice[k] for scores in own) / len(own) for k, name in enumerate(classes[1:])
    }
    several = any(scores.annotators > 1 for scores in own)
    return Validation(dice, sum(scores.energy for scores in own) / len(own) if several else None)


class _Scores(NamedTuple):
    """The scores of one case: Dice of each class except the background, and the energy score."""

    dice: list[float]
    energy: float
    annotators: int


def _scored(engine: Engine, case: Case, classes: int, recipe: Recipe) -> _Scores:
    rng = engine.generator(recipe.training.seed, case.name)
    votes = draw_votes(engine, case.image.numpy(), recipe, recipe.training.validation_votes, rng)
    mask, labels = decide(votes.mean(axis=0), recipe.data.components), case.labels.numpy()
    dice = []
    for k in range(1, classes):
        by_annotator = [count(mask == k, label == k).dice for label in labels]
        dice.append(sum(by_annotator) / len(by_annotator))
    return _Scores(dice, energy_score(classes_of_votes(votes), labels, classes), len(labels))


def energy_score(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Energy score of class masks, `[V, *S]` and `[R, *S]` (Gneiting & Raftery, JASA 2007).

    E d(vote, rater) - 1/2 E d(vote, vote') with d as in `cdal.evaluation.agreement.distances`. The
    second mean is over pairs of different votes, so its expectation does not depend on their
    number; it is 0 for one vote. The generalised energy distance is twice this, less what the
    annotators differ among themselves.
    """
    between = float(distances(votes, raters, classes).mean())
    count_of_votes = len(votes)
    if count_of_votes < 2:
        return between
    within = distances(votes, votes, classes)
    pairs = count_of_votes * (count_of_votes - 1)
    return between - float(within.sum() - np.trace(within)) / pairs / 2
