"""Simulated annotation: does annotating the ranked images help more than annotating random ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cdal.experiments.jobs import Job, read_budget
from cdal.inference.ranking import METHODS
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import (
    CDALSettings,
    DataSettings,
    Recipe,
    TrainingSettings,
    override,
    words_of,
)
from cdal.recipes.shipped.hippocampus import hippocampus
from cdal.recipes.shipped.monuseg import monuseg
from cdal.runtime.errors import UserError

RANDOM = "random"
"""The way of picking cases that the others are compared with."""

START = "start"
"""Name of the first training of a seed, which all ways of picking share."""


@dataclass(frozen=True)
class Rounds:
    """A simulation of annotating in rounds.

    A model is trained on few cases. Then cases are picked from the other training cases, as if they
    were annotated now, and a new model is trained on all. Every way of picking starts with the same
    random cases.

    Attributes:
        name: name of the experiment.
        question: the question, in one or two sentences.
        recipe: recipe of all trainings.
        sizes: number of annotated cases at each training.
        arms: ways of picking (`cdal.inference.ranking.METHODS`), besides `RANDOM`.
        fields: changed values of the recipe, by field name.
        seeds: random seeds. A seed decides the first cases, the training and the random picks.
        budget: budget of every training, `150steps`, `30min` or `2h`; `None` for the recipe's.
        picking: how the model is sampled to rank cases.
        tile: pixels of the side of square tiles that pictures are cut into, each of which is a
            case; `None` leaves them whole.
        middle: whether only the tile in the middle of a picture is taken.
        pool: number of cases to pick from; `None` for all training cases of the partition.
        validation: number of validation cases. They fit the temperature, and are not counted as
            annotated.
        test: number of test cases; `None` for all.
    """

    name: str
    question: str
    recipe: Recipe
    sizes: tuple[int, ...]
    arms: tuple[str, ...] = ("mixed",)
    fields: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    budget: str | None = "150steps"
    picking: Sampling = field(default_factory=lambda: Sampling(votes=4))
    tile: int | None = None
    middle: bool = False
    pool: int | None = None
    validation: int = 8
    test: int | None = None

    def base(self) -> Recipe:
        """The recipe of the trainings, with the budget and without its partition.

        Raises:
            UserError: a field or the budget cannot be used.
        """
        return self._base

    @cached_property
    def _base(self) -> Recipe:
        recipe = override(self.recipe, self.fields)
        return replace(recipe, training=replace(recipe.training, **read_budget(self.budget)))

    def picked_by(self, arms: Sequence[str]) -> Rounds:
        """The experiment with these ways of picking beside random picks; all its own if empty.

        Raises:
            UserError: a way of picking does not exist.
        """
        names = tuple(dict.fromkeys(name for name in arms or self.arms if name != RANDOM))
        if unknown := [name for name in names if name not in METHODS]:
            raise UserError(
                f"{self.name} has no {unknown[0]!r}. Ways of picking: {', '.join(METHODS)}."
            )
        return replace(self, arms=names)

    def about(self) -> dict[str, Any]:
        """A description to print."""
        return {
            "question": self.question,
            "recipe": " ".join([self.recipe.name, *words_of(self.fields)]),
            "variants": {arm: METHODS[arm] for arm in (RANDOM, *self.arms)},
            "annotated cases": list(self.sizes),
            "seeds": list(self.seeds),
            "budget": self.budget,
        }

    def job(self, arm: str, seed: int, size: int, home: Path) -> Job:
        """The training with this number of cases; the first is the same for all arms."""
        arm = START if size == self.sizes[0] else arm
        base = self.base()
        data = replace(base.data, partition=f"{arm}-{size}-seed-{seed}", fold=0, patient=None)
        recipe = replace(base, data=data, training=replace(base.training, seed=seed))
        return Job(f"{arm}, {size} cases", 0, recipe, home / f"seed-{seed}" / f"{arm}-{size}")

    def jobs(self, home: Path) -> list[Job]:
        """All trainings, in the order in which they are run."""
        return [
            job
            for seed in self.seeds
            for job in {
                job.folder: job
                for arm in (RANDOM, *self.arms)
                for job in (self.job(arm, seed, size, home) for size in self.sizes)
            }.values()
        ]


_SHORT = {
    "segmenter.channels": (8, 16, 32, 64),
    "segmenter.votes": 5,
    "training.learning_rate": 2e-3,
    "training.validate_every": 100_000,
}
"""A narrow network, a rate that suits few steps, and the weights of the last step.

A training takes one core some two minutes. (Validation would take the first, empty masks of the
nodules for the best: they agree with every annotator who drew nothing.)
"""

_QUESTION = (
    "After each round of annotating, is a model better if the images were ranked by `cdal rank` "
    "than if they were drawn at random?"
)


def _nodules() -> Recipe:
    """The middle of crops around a nodule, where the nodule is."""
    data = DataSettings(
        spatial_dims=2,
        size=(64, 64),
        channels=1,
        partition="given",
        folds=5,
        shift=4.0,
    )
    return Recipe("lidc", data, CDALSettings(), TrainingSettings(steps=600, batch=8))


RANKINGS: dict[str, Rounds] = {
    rounds.name: rounds
    for rounds in (
        Rounds(
            "ranking-hippocampus",
            _QUESTION,
            hippocampus(),
            (2, 4, 8),
            fields={
                **_SHORT,
                "data.spacing": (2.0, 2.0, 2.0),
                "data.size": (24, 32, 24),
                "data.shift": 1.5,
            },
            budget="500steps",
            test=40,
        ),
        Rounds(
            "ranking-monuseg",
            _QUESTION,
            monuseg(),
            (8, 16, 32),
            fields={
                **_SHORT,
                "data.patient": r"^TCGA-\w+-\w+",
                "data.size": (128, 128),
                "data.resize": (128, 128),
                "data.shift": 8,
                "data.mirror_votes": False,
                "data.protocols": ("own-grid",),
            },
            budget="400steps",
            tile=250,
            pool=192,
            test=56,
        ),
        Rounds(
            "ranking-lidc",
            _QUESTION,
            _nodules(),
            (40, 80, 160),
            fields={**_SHORT, "segmenter.votes": 16},
            budget="600steps",
            tile=64,
            middle=True,
            pool=400,
            validation=30,
            test=120,
        ),
    )
}
"""Shipped simulations, by name."""
