"""The jobs of a comparison: one for each system, fold and seed."""

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
from cdal.segmenters.model_header import CHECKPOINT
from cdal.training.run_folder import check_same_run

_BUDGET = re.compile(r"(\d+(?:\.\d+)?) ?(m|min|minutes?|h|hours?|steps?)")


@dataclass(frozen=True)
class Job:
    """One system on one fold with one seed.

    Attributes:
        system: name of the system.
        fold: number of the fold.
        recipe: recipe with this fold, seed and budget.
        folder: run folder.
        sampling: how to sample the trained model.
        members: jobs whose trained models vote together, instead of a training; the recipe is then
            that of the first.
    """

    system: str
    fold: int
    recipe: Recipe
    folder: Path
    sampling: Sampling = field(default_factory=Sampling)
    members: tuple[Job, ...] = ()

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        seed = 0 if self.members else self.recipe.training.seed
        return f"{self.system}, fold {self.fold}" + (f", seed {seed}" if seed else "")

    @property
    def evaluation(self) -> Path:
        """Folder for the scores."""
        return self.folder / "-".join(
            ["evaluation", *(word.strip("-") for word in self.sampling.words())]
        )

    @property
    def trained(self) -> bool:
        """Whether the training is finished."""
        return bool(kept_cost(self.folder))

    @property
    def done(self) -> bool:
        """Whether the evaluation is finished and no failure is recorded."""
        return (self.evaluation / SUMMARY).is_file() and not self.failure.is_file()

    @property
    def state(self) -> str:
        """Progress of the job: `scored`, `failed`, `trained`, `begun` or `missing`."""
        states = {
            "scored": self.done,
            "failed": self.failure.is_file(),
            "trained": self.trained,
            "begun": (self.folder / CHECKPOINT).is_file(),
        }
        return next((state for state, holds in states.items() if holds), "missing")

    @property
    def failure(self) -> Path:
        """File with the reason of a failure.

        A job with its own sampling has a separate file, because its failure must not mark the
        trained model as failed.
        """
        return (self.evaluation if self.sampling.words() else self.folder) / FAILURE

    @property
    def result(self) -> str:
        """Argument for `compare`: the name, and the path of the scores or of the failure."""
        return f"{self.system}={self.evaluation if self.done else self.failure}"


def systems_of(
    recipe: Recipe, segmenters: Sequence[str], fields: Mapping[str, Any] | None = None
) -> dict[str, Recipe]:
    """The recipe with each of these segmenters in turn, by the name of the segmenter.

    Args:
        recipe: recipe whose segmenter is replaced.
        segmenters: names of segmenters, see `cdal.recipes.systems`.
        fields: changed values of the recipe, by field name. Fields of the segmenter are changed
            only for the systems that have them.

    Raises:
        UserError: a segmenter or a field does not exist, or a segmenter needs a missing package.
    """
    _need_each_once("segmenter", segmenters)
    recipes = {name: with_segmenter(recipe, name) for name in segmenters}
    for changed in recipes.values():
        need_available(changed.segmenter)
    values = dict(fields or {})
    _need_known(values, recipes)
    return {
        name: override(base, {field: value for field, value in values.items() if _has(base, field)})
        for name, base in recipes.items()
    }


def plan(
    systems: Mapping[str, Recipe],
    data: Check,
    out: Path,
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Job]:
    """The jobs of a cross-validation, sorted by system, fold and seed.

    Arguments and errors are those of `cdal.experiments.crossval.crossval`.
    """
    first = next(iter(systems.values()))
    count = fold_count(data.folder, first.data)
    chosen = range(count) if folds is None else folds
    if invalid := [fold for fold in chosen if not 0 <= fold < count]:
        raise UserError(
            f"no fold {invalid[0]}. The partition {first.data.partition} has the folds 0 to "
            f"{count - 1}."
        )
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
                resolved = replace(recipe, data=replace(recipe.data, fold=fold), training=training)
                job = Job(name, fold, resolved, folder_of(name, out) / f"fold-{fold}{seeded}")
                check_same_run(job.folder, job.recipe)
                jobs.append(job)
    return jobs


def plan_ensemble(name: str, members: Sequence[Job], out: Path) -> Job:
    """The job of an ensemble of trainings on one fold.

    Args:
        name: name of the ensemble.
        members: jobs of its members.
        out: parent folder of the runs.

    Raises:
        UserError: there are fewer than two members.
    """
    seeds = [job.recipe.training.seed for job in members]
    if len(seeds) < 2:
        raise UserError(
            f"{name} is an ensemble of trainings with several seeds; one is given. Give more "
            "--seeds, or leave it out by naming other --arms."
        )
    first = members[0]
    folder = folder_of(name, out) / f"fold-{first.fold}-seeds-{'-'.join(map(str, seeds))}"
    return Job(name, first.fold, first.recipe, folder, members=tuple(members))


def folder_of(system: str, out: Path) -> Path:
    """Folder of the runs of a system."""
    return out / system.replace(" ", "-")


def _need_each_once(what: str, named: Sequence[str] | Sequence[int]) -> None:
    if not named:
        raise UserError(f"no {what} is named. Name one or more, with commas.")
    if repeated := [name for name, count in Counter(named).items() if count > 1]:
        raise UserError(f"the {what} {repeated[0]} is named twice.")


def _has(recipe: Recipe, field: str) -> bool:
    """Whether a recipe has a field.

    The answer is yes for every field outside the segmenter; `override` refuses misspelt ones.
    """
    return not field.startswith("segmenter.") or field in field_names(recipe)


def _need_known(fields: Iterable[str], recipes: Mapping[str, Recipe]) -> None:
    for name in fields:
        if not any(_has(recipe, name) for recipe in recipes.values()):
            known = sorted(
                {
                    f
                    for recipe in recipes.values()
                    for f in field_names(recipe)
                    if f.startswith("segmenter.")
                }
            )
            raise UserError(
                f"none of {', '.join(recipes)} has the field {name}. They have: {', '.join(known)}."
            )


def read_budget(budget: str | None) -> dict[str, Any]:
    """The fields of `TrainingSettings` for a budget such as `5min`, `2h` or `500steps`.

    Args:
        budget: the budget; `None` changes no field.

    Raises:
        UserError: the budget has another form.
    """
    if budget is None:
        return {}
    match = _BUDGET.fullmatch(budget.strip().lower())
    if match is None or float(match[1]) <= 0:
        raise UserError(
            f"a budget is minutes, hours or steps: 5min, 2h, 500steps; it is {budget!r}."
        )
    number, unit = float(match[1]), match[2][0]
    if unit == "s":
        return {"steps": int(number), "minutes": None}
    return {"steps": None, "minutes": number * (60 if unit == "h" else 1)}
