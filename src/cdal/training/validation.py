"""Scores on the validation cases, on the network's grid, and which weights are best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cdal.datasets.cases import Case
from cdal.evaluation.agreement import distances
from cdal.evaluation.metrics import count
from cdal.inference.decision import decide
from cdal.inference.engine import Engine
from cdal.inference.voting import draw_votes
from cdal.recipes.recipe import Recipe


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
    engine: Engine, cases: Sequence[Case], classes: Sequence[str], recipe: Recipe
) -> Validation:
    """Segment the validation cases and score them."""
    totals = dict.fromkeys(classes[1:], 0.0)
    energy, several = 0.0, any(len(case.labels) > 1 for case in cases)
    for case in cases:
        rng = engine.generator(recipe.training.seed, case.name)
        votes = draw_votes(
            engine, case.image.numpy(), recipe, recipe.training.validation_votes, rng
        )
        mask, labels = decide(votes.mean(axis=0), recipe.data.components), case.labels.numpy()
        for k, name in enumerate(classes[1:], start=1):
            by_annotator = [count(mask == k, label == k).dice for label in labels]
            totals[name] += sum(by_annotator) / len(by_annotator)
        if several:
            energy += energy_score(votes.argmax(axis=1), labels, len(classes))
    dice = {name: total / len(cases) for name, total in totals.items()}
    return Validation(dice, energy / len(cases) if several else None)


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
