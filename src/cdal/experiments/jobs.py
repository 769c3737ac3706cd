"""What a comparison has to run: one job for each system, fold and seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cdal.datasets.check import Check
from cdal.datasets.partition import fold_count
from cdal.evaluation.result import FAILURE, SUMMARY
from cdal.inference.sampling import Sampling
from cdal.recipes import with_segmenter
from cdal.recipes.recipe import Recipe, field_names, override
from cdal.runtime.cost import kept_cost
from cdal.runtime.errors import UserError
from cdal.segmenters.build import need_available
from cdal.training.checkpoint import CHECKPOINT
from cdal.training.run_folder import check_same_recipe

_BUDGET = re.compile(r"(\d+(?:\.\d+)?) ?(m|min|minutes?|h|hours?|steps?)")


@dataclass(frozen=True)
class Job:
    """One system on one fold with one seed.

    Attributes:
        system: its name.
        fold: k.
        recipe: resolved.
        folder: of the run.
        sampling: how the trained model is sampled.
    """

    system: str
    fold: int
    recipe: Recipe
    folder: Path
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def name(self) -> str:
        """What messages call it."""
        seed = self.recipe.training.seed
        return f"{self.system}, fold {self.fold}" + (f", seed {seed}" if seed else "")

    @property
    def evaluation(self) -> Path:
        """Where its scores go."""
        return self.folder / "-".join(["evaluation", *(word.strip("-") for word in self.sampling.words())])

    @property
    def trained(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(kept_cost(self.folder))

    @property
    def done(self) -> bool:
        """Whether it is scored already."""
        return (self.evaluation / SUMMARY).is_file() and not self.failure.is_file()

    @property
    def state(self) -> str:
        """`scored`; or what came last of what is still to do: `failed`, `trained`, `begun`, `missing`."""
        states = {
            "scored": self.done,
            "failed": self.failure.is_file(),
            "trained": self.trained,
            "begun": (self.folder / CHECKPOINT).is_file(),
        }
        return next((state for state, holds in states.items() if holds), "missing")

    @property
    def failure(self) -> Path:
        """Where it is said why it failed. Other ways to sample a trained model fail by themselves."""
        return (self.evaluation if self.sampling.words() else self.folder) / FAILURE

    @property
    def result(self) -> str:
        """What `compare` takes: the name, and where the scores are or why there are none."""
        return f"{self.system}={self.evaluation if self.done else self.failure}"


def systems_of(recipe: Recipe, segmenters: Sequence[str], fields: Mapping[str, Any] | None = None) -> dict[str, Recipe]:
    """The recipe with each of these segmenters, by name.

    Args:
        recipe: with its own segmenter, which the others replace.
        segmenters: names (`cdal.recipes.systems`).
        fields: values of the recipe, changed for every system; those of the segmenter if a system has them.

    Raises:
        UserError: a segmenter or a field is not known.
    """
    _need_each_once("segmenter", segmenters)
    changed = {name: with_segmenter(recipe, name) for name in segmenters}
    for one in changed.values():
        need_available(one.segmenter)
    given = dict(fields or {})
    _need_known(given, changed)
    return {
        name: override(one, {field: value for field, value in given.items() if _has(one, field)}) for name, one in changed.items()
    }


def plan(
    systems: Mapping[str, Recipe],
    data: Check,
    out: Path,
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Job]:
    """What there is to do, fold by fold of each system; arguments and errors as those of `crossval`."""
    first = next(iter(systems.values()))
    count = fold_count(data.folder, first.data)
    chosen = range(count) if folds is None else folds
    if wrong := [fold for fold in chosen if not 0 <= fold < count]:
        raise UserError(f"no fold {wrong[0]}. The partition {first.data.partition} has the folds 0 to {count - 1}.")
    _need_each_once("fold", chosen)
    seeds = [first.training.seed] if seeds is None else seeds
    _need_each_once("seed", seeds)
    changes = read_budget(budget)
    jobs = []
    for name, recipe in systems.items():
        for fold in chosen:
            for seed in seeds:
                training = replace(recipe.training, **changes, seed=seed)
                seeded = "" if seed == recipe.training.seed else f"-seed-{seed}"
                one = replace(recipe, data=replace(recipe.data, fold=fold), training=training)
                job = Job(name, fold, one, out / name.replace(" ", "-") / f"fold-{fold}{seeded}")
                check_same_recipe(job.folder, job.recipe)
                jobs.append(job)
    return jobs


def _need_each_once(what: str, named: Sequence[str] | Sequence[int]) -> None:
    if not named:
        raise UserError(f"no {what} is named. Name one or more, with commas.")
    if twice := [one for one, count in Counter(named).items() if count > 1]:
        raise UserError(f"the {what} {twice[0]} is named twice.")


def _has(recipe: Recipe, field: str) -> bool:
    """Whether a field is one of this recipe; misspelt ones of data and training are, for `override` to refuse them."""
    return not field.startswith("segmenter.") or field in field_names(recipe)


def _need_known(fields: Iterable[str], recipes: Mapping[str, Recipe]) -> None:
    for name in fields:
        if not any(_has(recipe, name) for recipe in recipes.values()):
            known = sorted({f for recipe in recipes.values() for f in field_names(recipe) if f.startswith("segmenter.")})
            raise UserError(f"none of {', '.join(recipes)} has the field {name}. They have: {', '.join(known)}.")


def read_budget(budget: str | None) -> dict[str, Any]:
    """The fields of `TrainingSettings` that `5min`, `2h` or `500steps` stand for.

    Raises:
        UserError: it is none of these.
    """
    if budget is None:
        return {}
    found = _BUDGET.fullmatch(budget.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise UserError(f"a budget is minutes, hours or steps: 5min, 2h, 500steps; it is {budget!r}.")
    number, unit = float(found[1]), found[2][0]
    if unit == "s":
        return {"steps": int(number), "minutes": None}
    return {"steps": None, "minutes": number * (60 if unit == "h" else 1)}
