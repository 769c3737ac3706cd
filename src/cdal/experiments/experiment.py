"""An experiment: a question, the variants that are trained for it, and one command that runs what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cdal.datasets.check import Check
from cdal.evaluation.comparison import Comparison, compare
from cdal.experiments.crossval import run_jobs
from cdal.experiments.jobs import Job, plan, systems_of
from cdal.experiments.page import write_page
from cdal.inference.sampling import Sampling
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe, override, words_of
from cdal.runtime.devices import find_device
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report, silent


@dataclass(frozen=True)
class Arm:
    """A variant.

    Attributes:
        segmenter: its system.
        fields: values of the recipe that differ, by name.
    """

    segmenter: str = "cdal"
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What is asked, and what is trained to answer it.

    Attributes:
        name: of the experiment.
        question: one or two sentences.
        recipe: name of the one that the variants change.
        arms: the variants by name; the first is the one that the others are held against.
        fields: values of the recipe, changed before it is varied.
        samplings: further ways to sample the first variant's trained models, by name.
        folds: of the recipe's partition.
        seeds: of the trainings.
        budget: of every training, `600steps`, `30min` or `2h`; none takes the recipe's.
    """

    name: str
    question: str
    recipe: str
    arms: Mapping[str, Arm]
    fields: Mapping[str, Any] = field(default_factory=dict)
    samplings: Mapping[str, Sampling] = field(default_factory=dict)
    folds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: str | None = None

    def base(self) -> Recipe:
        """The recipe that is varied.

        Raises:
            UserError: a field is not known.
        """
        return override(find_recipe(self.recipe), self.fields)

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of every variant; errors as `base`."""
        base = self.base()
        return {name: systems_of(base, [arm.segmenter], arm.fields)[arm.segmenter] for name, arm in self.arms.items()}

    def about(self) -> dict[str, Any]:
        """What it asks and trains, for people to read: variants and ways to sample with what they change."""
        variants = {name: " ".join([f"--segmenter {arm.segmenter}", *words_of(arm.fields)]) for name, arm in self.arms.items()}
        return {
            "question": self.question,
            "recipe": " ".join([self.recipe, *words_of(self.fields)]),
            "variants": variants,
            "samplings": {name: " ".join(sampling.words()) for name, sampling in self.samplings.items()},
            "folds": list(self.folds),
            "seeds": list(self.seeds),
            "budget": self.budget or "the recipe's",
        }

    def jobs(self, data: Check, out: Path, arms: Sequence[str] = ()) -> list[Job]:
        """What there is to train and to score.

        Args:
            data: the data folder, checked.
            out: holds the runs in `NAME/`.
            arms: only these variants and ways to sample, beside the first; all if none are given.

        Raises:
            UserError: a variant is not known; or as `cdal.experiments.jobs.plan`.
        """
        if unknown := [name for name in arms if name not in (*self.arms, *self.samplings)]:
            raise UserError(f"{self.name} has no {unknown[0]!r}. It has: {', '.join([*self.arms, *self.samplings])}.")
        first, *_ = self.arms
        chosen = {name: recipe for name, recipe in self.recipes().items() if name == first or not arms or name in arms}
        jobs = plan(chosen, data, out / self.name, self.folds, self.budget, self.seeds)
        again = [
            replace(job, system=name, sampling=sampling)
            for name, sampling in self.samplings.items()
            if not arms or name in arms
            for job in jobs
            if job.system == first
        ]
        return [*jobs, *again]


def run_experiment(
    experiment: Experiment,
    data: Check,
    out: Path | str,
    arms: Sequence[str] = (),
    device: str = "auto",
    report: Report = silent,
) -> Comparison:
    """Train and score what is missing, and write the page; what is there from an earlier call is kept.

    Args:
        experiment: see `Experiment`; `dataclasses.replace` changes its folds, seeds or budget.
        data: the data folder, checked.
        out: holds the runs in `NAME/`, and the page as `NAME.md`, `NAME.json` and, with the scores of every case, `NAME.csv`.
        arms: see `Experiment.jobs`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: see `cdal.experiments.crossval.crossval`.

    Raises:
        UserError: as `Experiment.jobs`; or every variant failed.
        KeyboardInterrupt: Ctrl-C came; the same call goes on from there.
    """
    out = Path(out)
    jobs = experiment.jobs(data, out, arms)
    run_jobs(jobs, data, out / experiment.name, device, report)
    comparison = compare([job.result for job in jobs], names=list(dict.fromkeys(job.system for job in jobs)))
    command, protocol = _command(experiment, arms), _protocol(experiment, jobs)
    write_page(comparison, experiment.name, experiment.question, command, protocol, find_device(device).type, out)
    return comparison


def _command(experiment: Experiment, arms: Sequence[str]) -> str:
    """What makes the page again."""
    folds, seeds = (",".join(map(str, numbers)) for numbers in (experiment.folds, experiment.seeds))
    words = ["cdal experiment", experiment.name, "--data DATA --out RUNS", f"--folds {folds}", f"--seeds {seeds}"]
    words += [f"--budget {experiment.budget}"] if experiment.budget else []
    words += [shlex.quote(field) for field in words_of(experiment.fields)]
    return " ".join([*words, *([f'--arms "{",".join(arms)}"'] if arms else [])])


def _protocol(experiment: Experiment, jobs: Sequence[Job]) -> str:
    training = jobs[0].recipe.training
    budget = f"{training.steps} steps" if training.minutes is None else f"{training.minutes:g} minutes"
    folds, seeds = (", ".join(map(str, numbers)) for numbers in (experiment.folds, experiment.seeds))
    return (
        f"Recipe `{experiment.recipe}`; folds: {folds}; seeds: {seeds}; {budget} of training for every variant, weights chosen on "
        "validation cases, scores on test cases."
    )
