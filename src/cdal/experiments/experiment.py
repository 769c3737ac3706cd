"""Experiments: a question, the variants trained to answer it, and a function that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cdal.datasets.check import Check
from cdal.evaluation.comparison import Comparison, compare
from cdal.experiments.crossval import run_jobs
from cdal.experiments.jobs import Job, plan, plan_ensemble, systems_of
from cdal.experiments.page import write_page
from cdal.inference.sampling import Sampling
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe, override, words_of
from cdal.runtime.devices import find_device
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report, silent
from cdal.runtime.execution.executor import Executor

_TOGETHER = (
    " The trainings of an ensemble are those of one variant with several seeds; they share its "
    "votes, and its cost is that of all of them."
)


@dataclass(frozen=True)
class Arm:
    """A variant of an experiment.

    Attributes:
        segmenter: name of its system.
        fields: changed values of the recipe, by field name.
    """

    segmenter: str = "cdal"
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ensemble:
    """Trainings of one variant that vote together.

    Attributes:
        arm: name of the variant.
        seeds: random seeds of the trainings; `None` for those of the experiment. Trainings with
            other seeds than the experiment's are members only, and are not scored by themselves.
    """

    arm: str
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Experiment:
    """A question and the trainings that answer it.

    Attributes:
        name: name of the experiment.
        question: the question, in one or two sentences.
        recipe: name of the recipe that the variants change.
        arms: variants by name; the others are compared with the first.
        fields: changed values of the recipe for all variants, by field name.
        samplings: further ways to sample the trained models of the first variant, by name.
        ensembles: trainings of variants that vote together, by name; one ensemble on each fold.
        folds: numbers of the folds, in the recipe's partition.
        seeds: random seeds of the trainings.
        budget: budget of every training, `600steps`, `30min` or `2h`; `None` for the recipe's.
    """

    name: str
    question: str
    recipe: str
    arms: Mapping[str, Arm]
    fields: Mapping[str, Any] = field(default_factory=dict)
    samplings: Mapping[str, Sampling] = field(default_factory=dict)
    ensembles: Mapping[str, Ensemble] = field(default_factory=dict)
    folds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: str | None = None

    def base(self) -> Recipe:
        """The recipe that the variants change.

        Raises:
            UserError: a field does not exist.
        """
        return override(find_recipe(self.recipe), self.fields)

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of every variant; the errors are those of `base`."""
        base = self.base()
        return {
            name: systems_of(base, [arm.segmenter], arm.fields)[arm.segmenter]
            for name, arm in self.arms.items()
        }

    def about(self) -> dict[str, Any]:
        """A description to print: the question, and what each variant and each sampling changes."""
        variants = {
            name: " ".join([f"--segmenter {arm.segmenter}", *words_of(arm.fields)])
            for name, arm in self.arms.items()
        }
        return {
            "question": self.question,
            "recipe": " ".join([self.recipe, *words_of(self.fields)]),
            "variants": variants,
            "samplings": {
                name: " ".join(sampling.words()) for name, sampling in self.samplings.items()
            },
            "ensembles": {
                name: f"{ensemble.arm}, seeds {', '.join(map(str, ensemble.seeds or self.seeds))}"
                for name, ensemble in self.ensembles.items()
            },
            "folds": list(self.folds),
            "seeds": list(self.seeds),
            "budget": self.budget or "the recipe's",
        }

    def jobs(self, data: Check, out: Path, arms: Sequence[str] = ()) -> list[Job]:
        """The jobs to train and to score.

        Args:
            data: the checked data folder.
            out: parent folder of the runs, which are in `NAME/`.
            arms: names of variants, samplings and ensembles to run besides the first variant; empty
                for all.

        Raises:
            UserError: a variant does not exist; also the errors of `cdal.experiments.jobs.plan`.
        """
        names = [*self.arms, *self.samplings, *self.ensembles]
        if unknown := [name for name in arms if name not in names]:
            raise UserError(f"{self.name} has no {unknown[0]!r}. It has: {', '.join(names)}.")
        first, *_ = self.arms
        chosen = {
            name: recipe
            for name, recipe in self.recipes().items()
            if name == first or not arms or name in arms
        }
        jobs = plan(chosen, data, out / self.name, self.folds, self.budget, self.seeds)
        resampled = [
            replace(job, system=name, sampling=sampling)
            for name, sampling in self.samplings.items()
            if not arms or name in arms
            for job in jobs
            if job.system == first
        ]
        ensembles = [
            self._ensemble(name, fold, data, out / self.name)
            for name in self.ensembles
            if not arms or name in arms
            for fold in self.folds
        ]
        return [*jobs, *resampled, *ensembles]

    def _ensemble(self, name: str, fold: int, data: Check, out: Path) -> Job:
        ensemble = self.ensembles[name]
        recipe = {ensemble.arm: self.recipes()[ensemble.arm]}
        members = plan(recipe, data, out, [fold], self.budget, ensemble.seeds or self.seeds)
        return plan_ensemble(name, members, out)


def run_experiment(
    experiment: Experiment,
    data: Check,
    out: Path | str,
    arms: Sequence[str] = (),
    device: str = "auto",
    report: Report = silent,
    executor: Executor | None = None,
) -> Comparison:
    """Run the missing trainings and evaluations of an experiment, and write its page.

    Finished trainings and evaluations of earlier calls are kept.

    Args:
        experiment: the experiment; `dataclasses.replace` changes its folds, seeds or budget.
        data: the checked data folder.
        out: folder for the runs (`NAME/`), the page (`NAME.md`), its numbers (`NAME.json`) and the
            scores of every case (`NAME.csv`).
        arms: see `Experiment.jobs`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: see `cdal.experiments.crossval.crossval`.
        executor: see `cdal.experiments.crossval.crossval`.

    Raises:
        UserError: every variant failed; also the errors of `Experiment.jobs`.
        KeyboardInterrupt: the user pressed Ctrl-C. The same call resumes the work.
    """
    out = Path(out)
    jobs = experiment.jobs(data, out, arms)
    run_jobs(jobs, data, out / experiment.name, device, report, executor)
    comparison = compare(
        [job.result for job in jobs], names=list(dict.fromkeys(job.system for job in jobs))
    )
    command, protocol = _command(experiment, arms), _protocol(experiment, jobs)
    write_page(
        comparison,
        experiment.name,
        experiment.question,
        command,
        protocol,
        find_device(device).type,
        out,
    )
    return comparison


def _command(experiment: Experiment, arms: Sequence[str]) -> str:
    """The command that reproduces the page."""
    folds, seeds = (",".join(map(str, numbers)) for numbers in (experiment.folds, experiment.seeds))
    words = [
        "cdal experiment",
        experiment.name,
        "--data DATA --out RUNS",
        f"--folds {folds}",
        f"--seeds {seeds}",
    ]
    words += [f"--budget {experiment.budget}"] if experiment.budget else []
    words += [shlex.quote(field) for field in words_of(experiment.fields)]
    return " ".join([*words, *([f'--arms "{",".join(arms)}"'] if arms else [])])


def _protocol(experiment: Experiment, jobs: Sequence[Job]) -> str:
    training = jobs[0].recipe.training
    budget = (
        f"{training.steps} steps" if training.minutes is None else f"{training.minutes:g} minutes"
    )
    folds, seeds = (
        ", ".join(map(str, numbers)) for numbers in (experiment.folds, experiment.seeds)
    )
    return (
        f"Recipe `{experiment.recipe}`; folds: {folds}; seeds: {seeds}; {budget} of training for "
        "every variant, weights chosen on validation cases, scores on test cases."
        + (_TOGETHER if any(job.members for job in jobs) else "")
    )
