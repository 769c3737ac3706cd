"""Learning curves of a simulation of annotating, and the areas under them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import trapezoid

from cdal.evaluation.metrics import nan_to_none
from cdal.evaluation.result import read_failure, read_result
from cdal.experiments.jobs import Job
from cdal.experiments.pool import Pool
from cdal.experiments.ranking import RANDOM, Rounds
from cdal.runtime.errors import UserError
from cdal.runtime.text import cell_text

MEASURES = {"dice": "Dice", "ged": "GED"}
"""Measures with their names for display. GED needs several annotators, and less of it is better."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A way of picking against random picks.

    Attributes:
        mean: mean difference over seeds and cases.
        interval: its 95 % bootstrap interval, see `Curves.difference`.
        by_seed: mean difference of each seed.
    """

    mean: float
    interval: tuple[float, float]
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """Scores of the test cases after every round.

    Attributes:
        sizes: number of annotated cases R after each round.
        arms: ways of picking; the first are random picks.
        seeds: seeds of which all rounds are done.
        cases: names of the test cases C.
        patients: patient of each test case.
        values: scores by measure and arm, `[seeds, R, C]`.
        failed: reasons why seeds are missing.
    """

    sizes: tuple[int, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    values: Mapping[str, Mapping[str, np.ndarray]]
    failed: tuple[str, ...] = ()

    def area(self, measure: str, arm: str) -> np.ndarray:
        """Area under the curve of each seed and test case, `[seeds, C]`.

        The trapezoidal rule over the logarithm of the number of cases, divided by the range: the
        mean height of the curve.
        """
        x = np.log2(self.sizes)
        heights = np.moveaxis(self.values[measure][arm], 1, -1)
        area: np.ndarray = trapezoid(heights, x, axis=-1) / (x[-1] - x[0])
        return area

    def difference(self, measure: str, arm: str, size: int | None = None) -> Difference:
        """An arm against random picks, after the round with `size` cases; the area if `None`.

        The bootstrap is paired: seeds are drawn with replacement, and so are the patients of the
        test cases, whose cases stay together; each draw takes the same of both arms. With a single
        seed only patients are drawn.
        """
        if size is None:
            values = self.area(measure, arm) - self.area(measure, RANDOM)
        else:
            at = self.sizes.index(size)
            ours, theirs = self.values[measure][arm], self.values[measure][RANDOM]
            values = ours[:, at] - theirs[:, at]
        by_seed = tuple(float(mean) for mean in values.mean(axis=1))
        return Difference(float(values.mean()), paired_interval(values, self.patients), by_seed)

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the page, as in its JSON file."""
        measures = {}
        for measure, by_arm in self.values.items():
            rounds = {
                arm: {
                    str(size): {
                        "mean": float(values[:, at].mean()),
                        "by_seed": values[:, at].mean(axis=1).tolist(),
                    }
                    for at, size in enumerate(self.sizes)
                }
                for arm, values in by_arm.items()
            }
            areas = {arm: self.area(measure, arm).mean(axis=1).tolist() for arm in self.arms}
            against = {
                arm: {
                    str(size or "area"): vars(self.difference(measure, arm, size))
                    for size in (*self.sizes[1:], None)
                }
                for arm in self.arms[1:]
            }
            measures[measure] = {"rounds": rounds, "areas": areas, "against_random": against}
        plain: dict[str, Any] = nan_to_none(
            {
                "sizes": list(self.sizes),
                "seeds": list(self.seeds),
                "test_cases": len(self.cases),
                "test_patients": len(set(self.patients)),
                "failed": list(self.failed),
                "measures": measures,
            }
        )
        return plain


def paired_interval(
    values: np.ndarray, patients: tuple[str, ...], resamples: int = _RESAMPLES
) -> tuple[float, float]:
    """95 % percentile interval of the mean of differences `[seeds, C]`, see `Curves.difference`.

    NaN with one seed and one patient, which cannot be resampled.
    """
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    of_patient = np.zeros((len(patients), len(numbers)))
    of_patient[np.arange(len(patients)), [numbers[patient] for patient in patients]] = 1
    sums, counts = values @ of_patient, of_patient.sum(axis=0)
    seeds, count = sums.shape
    if seeds * count < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    means = []
    for _ in range(resamples):
        drawn = rng.integers(count, size=count)
        some = rng.integers(seeds, size=seeds)
        means.append(sums[some][:, drawn].sum() / (seeds * counts[drawn].sum()))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def read_curves(experiment: Rounds, pool: Pool, home: Path) -> Curves:
    """Read the scores of all seeds of which every arm has finished every round.

    Raises:
        UserError: no seed is complete; the message has the first reason.
    """
    arms, failed = (RANDOM, *experiment.arms), []
    cases = tuple(sorted(pool.parts["test"]))
    found: dict[str, dict[str, list[list[np.ndarray]]]] = {}
    seeds = []
    for seed in experiment.seeds:
        jobs = {
            arm: [experiment.job(arm, seed, size, home) for size in experiment.sizes]
            for arm in arms
        }
        if missing := [job for of_arm in jobs.values() for job in of_arm if not job.done]:
            failed.append(f"seed {seed}: {_reason(missing[0])}")
            continue
        seeds.append(seed)
        for arm, of_arm in jobs.items():
            scores = [_scores(job, cases) for job in of_arm]
            for measure in scores[0]:
                by_arm = found.setdefault(measure, {})
                by_arm.setdefault(arm, []).append([values[measure] for values in scores])
    if not seeds:
        raise UserError(f"no seed is complete. {failed[0]}")
    values = {
        measure: {arm: np.array(of_arm) for arm, of_arm in by_arm.items()}
        for measure, by_arm in found.items()
    }
    patients = tuple(pool.patients[case] for case in cases)
    return Curves(experiment.sizes, arms, tuple(seeds), cases, patients, values, tuple(failed))


def _reason(job: Job) -> str:
    """Why a training or its evaluation is missing."""
    if job.failure.is_file():
        return f"{job.name}: {read_failure(job.failure).message}"
    return f"{job.name}: not trained, because cases could not be picked"


def _scores(job: Job, cases: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Scores of the test cases in order by measure, `[C]`; Dice is the mean of the classes.

    Raises:
        UserError: a case has no score.
    """
    result = read_result(job.evaluation)
    if missing := [case for case in cases if case not in result.scores]:
        raise UserError(f"{job.evaluation} lacks the scores of {missing[0]}. Delete it.")
    scores = {"dice": np.array([result.scores[case]["dice"].mean() for case in cases])}
    table = job.evaluation / "annotators.csv"
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = {cell_text(row["case"]): float(row["ged"]) for row in csv.DictReader(file)}
        scores["ged"] = np.array([rows[case] for case in cases])
    return scores
