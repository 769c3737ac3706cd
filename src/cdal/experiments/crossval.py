"""Cross-validation: train and evaluate systems on several folds with several seeds, then compare.

Every training and every evaluation runs in its own process, as `cdal train` or `cdal evaluate`. Its
peak memory is therefore its own. A process that fails, runs out of memory or is killed does not
affect the others; the comparison reports it as a failed system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cdal.datasets.check import Check
from cdal.evaluation.comparison import Comparison, compare
from cdal.evaluation.tables import write_comparison
from cdal.experiments.jobs import Job, plan
from cdal.recipes.recipe import Recipe, to_yaml
from cdal.runtime.cost import joined_cost, keep_cost, kept_cost
from cdal.runtime.devices import find_device
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.execution.executor import (
    Executor,
    Here,
    Outcome,
    Task,
    Tell,
    Worker,
    about_deaths,
)
from cdal.runtime.execution.processes import run_verb, terminated_is_interrupted
from cdal.runtime.files import sole_writer, wait_for_writer, write_json, write_text
from cdal.segmenters.model_header import MODEL

_TRUST = "--trust-own-network"
"""The models of a comparison are those that it has trained, with networks that the user named."""


def crossval(
    systems: Mapping[str, Recipe],
    data: Check,
    out: Path | str,
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    report: Report = silent,
    executor: Executor | None = None,
) -> Comparison:
    """Run the missing trainings and evaluations, then compare the systems.

    Finished trainings and evaluations of earlier calls are kept.

    Args:
        systems: recipe of each system by name; the others are compared with the first.
        data: the checked data folder.
        out: folder for the comparison and for `SYSTEM/fold-K/`, which hold run and evaluation.
            Seeds other than the recipe's use `SYSTEM/fold-K-seed-S/`.
        folds: numbers of the folds; `None` for all folds of the partition.
        budget: training budget of every system, `5min`, `2h` or `500steps`; `None` for the recipe's
            own.
        seeds: random seeds of the trainings; `None` for the recipe's.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, in trainings, and a line for each step of the work.
        executor: runs the trainings; `None` for one after the other. Each is given as a task.

    Raises:
        UserError: a fold, a seed or the budget is invalid, `out` holds a run of another recipe, or
            every system failed.
        KeyboardInterrupt: the user pressed Ctrl-C. The same call resumes the work.
    """
    out = Path(out)
    jobs = plan(systems, data, out, folds, budget, seeds)
    run_jobs(jobs, data, out, device, report, executor)
    comparison = compare([job.result for job in jobs], names=list(systems))
    write_comparison(comparison, out)
    return comparison


def run_jobs(
    jobs: Sequence[Job],
    data: Check,
    out: Path,
    device: str = "auto",
    report: Report = silent,
    executor: Executor | None = None,
) -> None:
    """Run the missing trainings and evaluations; arguments and errors are those of `crossval`."""
    data.need_no_errors()
    executor = executor or Here()
    if isinstance(executor, Here):
        find_device(device)
    progress = _Progress(jobs, report)
    make_worker = _JobWorkers(data.folder.root, device)
    with sole_writer(out), terminated_is_interrupted():
        for wave in waves(jobs):
            missing = progress.missing(wave)
            with closing(executor.run(missing, make_worker, progress.heard)) as outcomes:
                for outcome in outcomes:
                    progress.finished(outcome)
    if lost := about_deaths(executor):
        report(Event("running", message=lost))


def waves(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups, one group after the other; those of a group can run at the same time.

    Jobs that share a run folder are in different groups. Ensembles are in the last one, after their
    members; those that are no jobs themselves are added.
    """
    groups: list[list[Job]] = []
    times: Counter[Path] = Counter()
    for job in jobs:
        if not job.members:
            if times[job.folder] == len(groups):
                groups.append([])
            groups[times[job.folder]].append(job)
            times[job.folder] += 1
    ensembles = [job for job in jobs if job.members]
    members = {member.folder: member for job in ensembles for member in job.members}
    others = [member for folder, member in members.items() if folder not in times]
    return [group for group in (*groups, others, ensembles) if group]


def run_job(
    job: Job, data: Path, device: str, say: Callable[[str], object], scored: bool = True
) -> str:
    """Train a job if necessary, and evaluate it.

    Args:
        job: the job.
        data: the data folder.
        device: `auto`, `cpu`, `cuda` or `mps`.
        say: receives the lines that the verbs write.
        scored: whether to evaluate it.

    Returns:
        What failed, and why, which is also written into the job's folder; else nothing.
    """
    job.failure.unlink(missing_ok=True)
    stage, message = "training", "" if job.trained else _train(job, data, device, say)
    if scored and not message:
        words = ["evaluate", str(job.folder), "--data", str(data), "--device", device]
        words += ["--out", str(job.evaluation), *job.sampling.words(), _TRUST]
        stage, message = "evaluation", run_verb(words, say)
    return _failed(job, stage, message) if message else ""


def _failed(job: Job, stage: str, message: str) -> str:
    """Write a failure into the job's folder; returns it as a line."""
    failure = {"segmenter": job.system, "fold": job.fold, "stage": stage, "message": message}
    write_json(job.failure, failure)
    return f"failed in {stage}: {message}"


@dataclass(frozen=True)
class _JobWorkers:
    """Makes workers that run jobs; see `cdal.runtime.execution.executor.MakeWorker`."""

    data: Path
    device: str

    def __call__(self) -> Worker:
        """A worker. It needs little itself: each of its verbs is a process of its own."""
        return self._run

    def _run(self, task: Task, tell: Tell) -> str:
        job, scored = task.content
        return run_job(job, self.data, self.device, tell, scored)


class _Progress:
    """Reports which jobs run, and how many are done."""

    def __init__(self, jobs: Sequence[Job], report: Report) -> None:
        self._numbers = {id(job): number for number, job in enumerate(jobs, start=1)}
        self._report, self._done, self._total = report, 0, len(jobs)

    def missing(self, wave: Sequence[Job]) -> Iterator[Task]:
        """The jobs of a wave that are not done, when they are to begin."""
        for job in wave:
            number = self._numbers.get(id(job))
            task = Task(job.name, (job, number is not None))
            if number is None:
                if not job.trained:
                    self.heard(task, "a member of an ensemble")
                    yield task
            elif job.done:
                self.heard(task, "done already")
                self._count(task)
            else:
                self.heard(task, f"{number} of {self._total}")
                yield task

    def heard(self, task: Task, line: str) -> None:
        """A line about a job."""
        self._report(Event("running", task.name, self._done, self._total, line))

    def finished(self, outcome: Outcome) -> None:
        """A job is done, or has failed."""
        job, scored = outcome.task.content
        line = _failed(job, "training", outcome.failure) if outcome.failure else outcome.value
        if line:
            self.heard(outcome.task, line)
        if scored:
            self._count(outcome.task)

    def _count(self, task: Task) -> None:
        self._done += 1
        self._report(Event("running", task.name, self._done, self._total))


def _train(job: Job, data: Path, device: str, say: Callable[[str], object]) -> str:
    """Train a job, or put its members together; returns why that failed, or nothing."""
    if job.members:
        return _join(job, say)
    wait_for_writer(job.folder)
    recipe = job.folder / "asked.yaml"
    write_text(recipe, to_yaml(job.recipe))
    words = ["train", str(recipe), "--data", str(data), "--device", device]
    return run_verb([*words, "--out", str(job.folder)], say)


def _join(job: Job, say: Callable[[str], object]) -> str:
    """Put the models of an ensemble's members into one file; returns why that failed."""
    if missing := [member.name for member in job.members if not member.trained]:
        return f"{missing[0]}: it has failed"
    folders = [member.folder for member in job.members]
    words = ["ensemble", *map(str, folders), "--out", str(job.folder / MODEL), _TRUST]
    message = run_verb(words, say)
    if not message:
        costs = {f"{folder.parent.name}/{folder.name}": kept_cost(folder) for folder in folders}
        keep_cost(job.folder, {**joined_cost(list(costs.values())), "members": costs})
    return message
