"""Running a simulation of annotating: trainings, evaluations and picks, each in its own process."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cdal.datasets.check import Check
from cdal.experiments.crossval import run_job
from cdal.experiments.curves import Curves, read_curves
from cdal.experiments.curves_page import write_curves
from cdal.experiments.jobs import Job
from cdal.experiments.pool import Pool, make_pool
from cdal.experiments.ranking import RANDOM, Rounds
from cdal.inference.selection import select
from cdal.runtime.devices import find_device
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.execution.processes import run_verb, terminated_is_interrupted
from cdal.runtime.files import sole_writer
from cdal.runtime.seeds import seed_sequence
from cdal.runtime.text import cell_text
from cdal.training.run_folder import check_same_run


def run_rounds(
    experiment: Rounds,
    data: Check,
    out: Path | str,
    device: str = "auto",
    report: Report = silent,
) -> Curves:
    """Run the missing trainings, evaluations and picks of a simulation, and write its page.

    What earlier calls finished is kept. A seed of which a part failed is left out of the page, and
    tried again by the next call.

    Args:
        experiment: the simulation; `dataclasses.replace` changes its seeds, arms or budget.
        data: the checked data folder.
        out: folder for the runs (`NAME/seed-S/ARM-CASES/`), the page (`NAME.md`) with its picture
            (`NAME.png`), its numbers (`NAME.json`) and the scores of every case (`NAME.csv`).
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, in trainings, and a line for each step of the work.

    Raises:
        UserError: the data cannot be used, `out` holds another simulation, or no seed is complete.
        KeyboardInterrupt: the user pressed Ctrl-C. The same call resumes the work.
    """
    out = Path(out)
    home = out / experiment.name
    data.need_no_errors()
    find_device(device)
    jobs = experiment.jobs(home)
    for job in jobs:
        check_same_run(job.folder, job.recipe)
    with sole_writer(home), terminated_is_interrupted():
        pool = make_pool(experiment, data, home / "pool", report)
        simulation = _Simulation(experiment, pool, home, device, report)
        for seed in experiment.seeds:
            simulation.run(seed)
    curves = read_curves(experiment, pool, home)
    write_curves(experiment, curves, pool, jobs, device, out)
    return curves


class _Simulation:
    """Runs the rounds of one seed after the other."""

    def __init__(
        self, experiment: Rounds, pool: Pool, home: Path, device: str, report: Report
    ) -> None:
        self.experiment, self.pool, self.home = experiment, pool, home
        self.device, self.report = device, report
        self._total = len(experiment.jobs(home))
        self._tried: set[Path] = set()

    def run(self, seed: int) -> None:
        """Train, score and pick for every arm, until all rounds are done or one fails."""
        experiment = self.experiment
        for arm in (RANDOM, *experiment.arms):
            cases = first_cases(self.pool, experiment.sizes[0], seed)
            for number, size in enumerate(experiment.sizes):
                if number:
                    before = experiment.job(arm, seed, experiment.sizes[number - 1], self.home)
                    picked = self._pick(before, arm, size - len(cases), cases)
                    if not picked:
                        break
                    cases = [*cases, *picked]
                job = experiment.job(arm, seed, size, self.home)
                self.pool.add_partition(job.recipe.data.partition, cases)
                self._train(job)
                if not job.done:
                    break

    def _train(self, job: Job) -> None:
        """Train and score, unless an earlier call has, or this one has tried to."""
        if job.folder in self._tried:
            return
        self._tried.add(job.folder)
        say = self._say(job.name)
        say("done already" if job.done else f"{len(self._tried)} of {self._total}")
        if not job.done and (line := run_job(job, self.pool.folder, self.device, say)):
            say(line)

    def _pick(self, job: Job, arm: str, count: int, cases: Sequence[str]) -> list[str]:
        """The next cases, picked with the trained model of a job; none if that failed."""
        left = self.pool.images(sorted(set(self.pool.parts["train"]) - set(cases)))
        table = job.folder / f"next-{arm}.csv"
        picked = _picked(table, left)
        if len(picked) != count:
            say = self._say(f"{job.name}, {arm} picks")
            words = ["rank", str(job.folder), *map(str, left), "--out", str(table)]
            words += ["--method", arm, "--count", str(count), "--device", self.device]
            words += [*self.experiment.picking.words(), "--seed", str(job.recipe.training.seed)]
            say(f"{count} of {len(left)} cases")
            message = run_verb(words, say)
            picked = [] if message else _picked(table, left)
            if len(picked) != count:
                say(f"failed: {message or f'{len(picked)} of {count} cases were picked'}")
                return []
        return picked

    def _say(self, name: str) -> Callable[[str], object]:
        done = len(self._tried)
        return lambda line: self.report(Event("running", name, done, self._total, line))


def first_cases(pool: Pool, count: int, seed: int) -> list[str]:
    """The first annotated cases: drawn at random, patients apart."""
    names = sorted(pool.parts["train"])
    order = np.random.default_rng(seed_sequence(seed, "first cases")).permutation(len(names))
    picks = select(-np.argsort(order), [pool.patients[name] for name in names], count)
    return [names[pick.index] for pick in picks]


def _picked(table: Path, images: dict[Path, str]) -> list[str]:
    """The cases that a table of `cdal rank` chose, in order; none if it is not there."""
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["rank"]]
    paths = [Path(cell_text(row["path"])) for row in rows]
    if unknown := [path for path in paths if path not in images]:
        raise UserError(
            f"{table} chose {unknown[0]}, which cannot be picked. Delete the file to pick again."
        )
    return [images[path] for path in paths]
