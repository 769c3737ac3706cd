"""A system in a comparison: its evaluations, one for each training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cdal.evaluation.metrics import nan_mean, sample_sd
from cdal.evaluation.result import Failure, Result
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Competitor:
    """A system with its evaluations, or with the reason why it failed.

    Attributes:
        name: name of the system.
        results: one evaluation for each fold and seed, in this order.
        failure: message if a run failed, otherwise empty. A system that failed is left out of the
            comparison, with all its results.
    """

    name: str
    results: tuple[Result, ...]
    failure: str = ""

    def values(self, score: str, kind: str | None = None) -> np.ndarray:
        """A score of every case, sorted by the names of the cases.

        Several trainings may be tested on the same case: those with different seeds, or all folds
        of a data set with a fixed test set. Every case counts once, by its mean over these
        trainings.

        Args:
            score: name of the score.
            kind: name of the class; `None` for the mean over the classes.
        """
        by_case: dict[str, list[float]] = {}
        for result in self.results:
            for case, value in zip(result.scores, result.values(score, kind), strict=True):
                by_case.setdefault(case, []).append(value)
        return np.array([np.mean(by_case[case]) for case in sorted(by_case)])

    def by_fold(self, score: str, kind: str | None = None) -> np.ndarray:
        """Mean score of each fold; the arguments are those of `values`."""
        return self._by([result.fold for result in self.results], score, kind)

    def by_seed(self, score: str, kind: str | None = None) -> np.ndarray:
        """Mean score of each seed; the arguments are those of `values`."""
        return self._by([result.seed for result in self.results], score, kind)

    def _by(self, keys: Sequence[int | None], score: str, kind: str | None) -> np.ndarray:
        groups: dict[int | None, list[float]] = {}
        for key, result in zip(keys, self.results, strict=True):
            groups.setdefault(key, []).append(nan_mean(result.values(score, kind)))
        return np.array([np.mean(means) for means in groups.values()])

    def uncertainty(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the trainings for each measure of uncertainty.

        Only measures that all trainings have are included.
        """
        trainings = [result.uncertainty for result in self.results]
        shared = [
            measure
            for measure in trainings[0]
            if all(measure in training for training in trainings)
        ]
        values = {
            measure: np.array([training[measure] for training in trainings]) for measure in shared
        }
        return {
            measure: (float(of_trainings.mean()), sample_sd(of_trainings))
            for measure, of_trainings in values.items()
        }

    def cost(self) -> dict[str, float | None]:
        """Costs as medians over the evaluations; `None` if unknown.

        `parameters`, `gigaflops`, `seconds_per_image`, `training_minutes`, `training_steps` and
        `peak_memory_gib` (of the training process).
        """
        trainings = [result.cost.get("training") or {} for result in self.results]
        seconds = _median(training.get("seconds") for training in trainings)
        return {
            "parameters": _median(result.cost.get("parameters") for result in self.results),
            "gigaflops": _median(result.cost.get("gigaflops") for result in self.results),
            "seconds_per_image": _median(result.seconds for result in self.results),
            "training_minutes": None if seconds is None else seconds / 60,
            "training_steps": _median(training.get("steps") for training in trainings),
            "peak_memory_gib": _median(training.get("peak_memory") for training in trainings),
        }


def competitors_of(outcomes: Sequence[Result | Failure]) -> list[Competitor]:
    """Group evaluations and failures by the name of the system, sorted by fold and seed.

    If one fold of a system failed, the system counts as failed.
    """
    competitors = []
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        results = [
            outcome for outcome in outcomes if isinstance(outcome, Result) and outcome.name == name
        ]
        failures = [
            outcome.message
            for outcome in outcomes
            if isinstance(outcome, Failure) and outcome.name == name
        ]
        trainings = [_training(result) for result in results]
        if duplicates := [result for result in results if trainings.count(_training(result)) > 1]:
            first = duplicates[0]
            paths = ", ".join(
                str(result.path) for result in duplicates if _training(result) == _training(first)
            )
            raise UserError(
                f"several evaluations of {name} on fold {first.fold}: {paths}. Give each a name: "
                "NAME=FOLDER."
            )
        ordered = sorted(results, key=_training)
        competitors.append(Competitor(name, tuple(ordered), failures[0] if failures else ""))
    return competitors


def _training(result: Result) -> tuple[int, int]:
    """Fold and seed of a result as a key to sort by; -1 if unknown."""
    return (-1 if result.fold is None else result.fold, -1 if result.seed is None else result.seed)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
