"""Comparison of several systems on the same cases: scores, costs, and tests against a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.metrics import SCORES, bootstrap_interval, nan_mean, nan_to_none, sample_sd
from cdal.evaluation.result import Failure, Result, find_results
from cdal.evaluation.significance import holm, paired_t, permutation, wilcoxon
from cdal.runtime.errors import UserError, first_few

_SAME = ("data", "partition", "folds", "split", "scoring", "unit", "empty_masks")
"""Protocol entries that two evaluations must share, besides the cases of a fold and their truth."""


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


@dataclass(frozen=True)
class Description:
    """Statistics of one score of a system.

    Attributes:
        mean: mean over the cases that have the score.
        interval: 95 % bootstrap interval of the mean over cases.
        sd_over_folds: sample standard deviation (as in the paper) of the means of the folds; NaN
            with one fold.
        sd_over_seeds: sample standard deviation of the means of the seeds; NaN with one seed.
        missing: number of cases without the score; a distance is missing if a mask is empty.
    """

    mean: float
    interval: tuple[float, float]
    sd_over_folds: float
    sd_over_seeds: float
    missing: int


@dataclass(frozen=True)
class Against:
    """A system compared with the reference, by the mean score over the classes.

    Attributes:
        difference: mean over cases of the system's score minus the reference's.
        interval: 95 % bootstrap interval of the difference over cases.
        wilcoxon: p-value of Wilcoxon's signed-rank test, Holm-corrected for the number of systems.
        permutation: p-value of the permutation test, corrected in the same way.
        t_over_folds: p-value of the paired t-test over folds, as in the paper; not corrected.
    """

    difference: float
    interval: tuple[float, float]
    wilcoxon: float
    permutation: float
    t_over_folds: float


@dataclass(frozen=True)
class Comparison:
    """Outcome of a comparison.

    Attributes:
        competitors: systems in the order given, including those that failed.
        reference: name of the system that the others are compared with.
        score: name of the compared score.
        classes: names of the classes without the background.
        described: statistics by name of the system, by class (`None` for the mean over the classes)
            and by score.
        against: tests by name of the system, without the reference and the systems that failed.
        protocol: protocol entries that all evaluations share.
    """

    competitors: tuple[Competitor, ...]
    reference: str
    score: str
    classes: tuple[str, ...]
    described: Mapping[str, Mapping[str | None, Mapping[str, Description]]]
    against: Mapping[str, Against]
    protocol: Mapping[str, Any]

    @property
    def finished(self) -> tuple[Competitor, ...]:
        """The systems that did not fail."""
        return tuple(competitor for competitor in self.competitors if not competitor.failure)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain data for JSON; NaN becomes `None`."""
        return {
            "score": self.score,
            "reference": self.reference,
            "protocol": dict(self.protocol),
            "systems": {
                competitor.name: self._numbers(competitor) for competitor in self.competitors
            },
        }

    def _numbers(self, competitor: Competitor) -> dict[str, Any]:
        if competitor.failure:
            return {"failure": competitor.failure}
        plain = {
            kind: {score: nan_to_none(vars(description)) for score, description in scores.items()}
            for kind, scores in self.described[competitor.name].items()
        }
        mean = plain.pop(None)
        against = self.against.get(competitor.name)
        uncertainty = {
            measure: {"mean": value, "sd": sd}
            for measure, (value, sd) in competitor.uncertainty().items()
        }
        numbers = {
            "classes": plain,
            "mean": mean,
            "uncertainty": nan_to_none(uncertainty),
            "cost": competitor.cost(),
        }
        return numbers | ({"against_reference": nan_to_none(vars(against))} if against else {})


def compare(
    results: Sequence[Path | str],
    reference: str | None = None,
    score: str = "dice",
    names: Sequence[str] = (),
    scoring: str | None = None,
) -> Comparison:
    """Compare evaluations of several systems on the same cases.

    Args:
        results: folders that `cdal evaluate --out` wrote, or parents of such folders, for example
            that of a cross-validation. Several folds of one system are combined. `NAME=FOLDER`
            gives a system a name.
        reference: name of the system that the others are compared with; by default the first one
            that did not fail.
        score: name of the score to test.
        names: names of the systems to put first, in this order.
        scoring: scoring protocol whose scores are compared; by default the first of each
            evaluation.

    Raises:
        UserError: a folder holds no evaluation, or two evaluations differ in their cases or
            protocols; the message lists the differences.
    """
    if score not in SCORES:
        raise UserError(f"no score {score!r}. There are: {', '.join(SCORES)}.")
    competitors = _competitors(list(find_results(results, scoring)))
    competitors = sorted(
        competitors, key=lambda competitor: [*names, competitor.name].index(competitor.name)
    )
    finished = [competitor for competitor in competitors if not competitor.failure]
    if not finished:
        raise UserError(
            f"nothing to compare: every system failed. The first says: {competitors[0].failure}"
        )
    reference = reference or finished[0].name
    chosen = next((competitor for competitor in finished if competitor.name == reference), None)
    if chosen is None:
        raise UserError(
            f"no evaluation of {reference!r}, the reference. There are: "
            f"{', '.join(c.name for c in finished)}."
        )
    for competitor in finished:
        _need_the_same(chosen, competitor)
    classes = chosen.results[0].classes
    described = {
        competitor.name: {
            kind: {s: _describe(competitor, s, kind) for s in SCORES} for kind in (*classes, None)
        }
        for competitor in finished
    }
    against = _against(
        chosen, [competitor for competitor in finished if competitor is not chosen], score
    )
    common = {name: chosen.results[0].protocol.get(name) for name in _SAME}
    return Comparison(tuple(competitors), reference, score, classes, described, against, common)


def _competitors(outcomes: Sequence[Result | Failure]) -> list[Competitor]:
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


def _need_the_same(reference: Competitor, system: Competitor) -> None:
    """Check that two systems were evaluated on the same cases under the same protocol.

    Raises:
        UserError: they were not.
    """
    folds, own_folds = (
        [result.fold for result in reference.results],
        [result.fold for result in system.results],
    )
    # An ensemble is one result for several trainings on a fold.
    ensembles = any(result.members for result in (*reference.results, *system.results))
    same = set(folds) == set(own_folds) if ensembles else folds == own_folds
    if not same:
        raise UserError(
            f"{reference.name} was evaluated on the folds {folds}, {system.name} on {own_folds}. "
            "Evaluate both on the same."
        )
    of_fold = {result.fold: result for result in reversed(reference.results)}
    pairs = (
        [(of_fold[result.fold], result) for result in system.results]
        if ensembles
        else list(zip(reference.results, system.results, strict=True))
    )
    for first, second in pairs:
        if differences := _differences(first, second):
            raise UserError(
                f"{first.path} and {second.path} cannot be compared: {'; '.join(differences)}. "
                "Evaluate both in the same way."
            )


def _differences(first: Result, second: Result) -> list[str]:
    """Differences that forbid a comparison of two results, as messages."""
    differences = [
        f"{name} is {first.protocol.get(name)!r} there and {second.protocol.get(name)!r} here"
        for name in _SAME
        if first.protocol.get(name) != second.protocol.get(name)
    ]
    if first.classes != second.classes:
        differences.append(
            f"the classes are {', '.join(first.classes)} there and {', '.join(second.classes)} here"
        )
    missing, extra = (
        sorted(set(first.scores) - set(second.scores)),
        sorted(set(second.scores) - set(first.scores)),
    )
    differences += [f"{second.path} lacks the cases {first_few(missing)}"] if missing else []
    differences += [f"{second.path} has also the cases {first_few(extra)}"] if extra else []
    checksums = [result.protocol.get("truth") for result in (first, second)]
    if not differences and checksums[0] != checksums[1]:
        unknown = "one was made by an older version, which kept no checksum of the labels"
        differences.append(
            "the cases have the same names, but other labels" if all(checksums) else unknown
        )
    return differences


def _against(
    reference: Competitor, systems: Sequence[Competitor], score: str
) -> dict[str, Against]:
    baseline, baseline_by_fold = reference.values(score), reference.by_fold(score)
    values_of = [system.values(score) for system in systems]
    wilcoxon_p = holm([wilcoxon(values, baseline) for values in values_of])
    permutation_p = holm([permutation(values, baseline) for values in values_of])
    return {
        system.name: Against(
            nan_mean(values - baseline),
            bootstrap_interval(values - baseline),
            wilcoxon_p[i],
            permutation_p[i],
            paired_t(system.by_fold(score), baseline_by_fold),
        )
        for i, (system, values) in enumerate(zip(systems, values_of, strict=True))
    }


def _describe(competitor: Competitor, score: str, kind: str | None) -> Description:
    values = competitor.values(score, kind)
    over_folds, over_seeds = (
        sample_sd(means)
        for means in (competitor.by_fold(score, kind), competitor.by_seed(score, kind))
    )
    return Description(
        nan_mean(values),
        bootstrap_interval(values),
        over_folds,
        over_seeds,
        int(np.isnan(values).sum()),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
