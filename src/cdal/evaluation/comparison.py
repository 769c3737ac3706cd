"""Several systems on the same cases: what each reached, what it cost, and whether it differs from the one they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.metrics import SCORES, bootstrap_interval, nan_mean, nan_to_none, sample_sd
from cdal.evaluation.result import Failure, Result, find_results
from cdal.evaluation.significance import holm, paired_t, permutation, wilcoxon
from cdal.runtime.errors import UserError, some

_SAME = ("data", "partition", "folds", "split", "scoring", "unit", "empty_masks")
"""What two evaluations must have in common, beside the cases of a fold and their truth."""


@dataclass(frozen=True)
class Competitor:
    """A system and its evaluations, the folds in order; or why there are none.

    Attributes:
        name: of the system.
        results: one for each fold and seed.
        failure: what went wrong, where something did; the results are then left out of the comparison.
    """

    name: str
    results: tuple[Result, ...]
    failure: str = ""

    def values(self, score: str, kind: str | None = None) -> np.ndarray:
        """A score of every case, in the order of their names; of a class, or the mean over the classes.

        Where several trainings are tested on one case (other seeds, or folds of a data set with test cases of its own), the mean
        over them counts, so that every case counts once.
        """
        by_case: dict[str, list[float]] = {}
        for result in self.results:
            for case, value in zip(result.scores, result.values(score, kind), strict=True):
                by_case.setdefault(case, []).append(value)
        return np.array([np.mean(by_case[case]) for case in sorted(by_case)])

    def by_fold(self, score: str, kind: str | None = None) -> np.ndarray:
        """The mean of each fold."""
        return self._by([result.fold for result in self.results], score, kind)

    def by_seed(self, score: str, kind: str | None = None) -> np.ndarray:
        """The mean of each seed."""
        return self._by([result.seed for result in self.results], score, kind)

    def _by(self, keys: Sequence[int | None], score: str, kind: str | None) -> np.ndarray:
        means = [nan_mean(result.values(score, kind)) for result in self.results]
        return np.array([np.mean([mean for mean, of in zip(means, keys, strict=True) if of == key]) for key in dict.fromkeys(keys)])

    def uncertainty(self) -> dict[str, tuple[float, float]]:
        """By measure, the mean over the trainings and their standard deviation; measures that one of them lacks are left out."""
        told = [result.uncertainty for result in self.results]
        shared = [measure for measure in told[0] if all(measure in one for one in told)]
        values = {measure: np.array([one[measure] for one in told]) for measure in shared}
        return {measure: (float(of_trainings.mean()), sample_sd(of_trainings)) for measure, of_trainings in values.items()}

    def cost(self) -> dict[str, float | None]:
        """Parameters, gigaflops, seconds an image, minutes and steps of training, and GiB: medians over folds, none if unknown."""
        training = [result.cost.get("training") or {} for result in self.results]
        seconds = _median(one.get("seconds") for one in training)
        return {
            "parameters": _median(result.cost.get("parameters") for result in self.results),
            "gigaflops": _median(result.cost.get("gigaflops") for result in self.results),
            "seconds_per_image": _median(result.seconds for result in self.results),
            "training_minutes": None if seconds is None else seconds / 60,
            "training_steps": _median(one.get("steps") for one in training),
            "peak_memory_gib": _median(one.get("peak_memory") for one in training),
        }


@dataclass(frozen=True)
class Description:
    """A score of a system.

    Attributes:
        mean: over the cases that have it.
        interval: 95 % bootstrap interval over cases.
        sd_over_folds: standard deviation (of a sample, as the paper's) of the folds' means; NaN with one fold.
        sd_over_seeds: the same of the seeds' means.
        missing: cases that have none, as distances where a mask is empty.
    """

    mean: float
    interval: tuple[float, float]
    sd_over_folds: float
    sd_over_seeds: float
    missing: int


@dataclass(frozen=True)
class Against:
    """A system held against the reference, over the mean of the classes.

    Attributes:
        difference: of the means over cases, the system's less the reference's.
        interval: 95 % bootstrap interval of it over cases.
        wilcoxon: p, corrected after Holm for the number of systems.
        permutation: p, corrected likewise.
        t_over_folds: p of the paired t-test over folds, as in the paper; not corrected.
    """

    difference: float
    interval: tuple[float, float]
    wilcoxon: float
    permutation: float
    t_over_folds: float


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        competitors: in the order given, those that failed too.
        reference: name of the one that the others are held against.
        score: which score is compared.
        classes: names without the background.
        described: by name of the system, by class (none for the mean over the classes), by score.
        against: by name, for all but the reference and those that failed.
        protocol: what all evaluations have in common.
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
        """Those that did not fail."""
        return tuple(competitor for competitor in self.competitors if not competitor.failure)

    def to_dict(self) -> dict[str, Any]:
        """Every number, for JSON; NaN becomes none."""
        return {
            "score": self.score,
            "reference": self.reference,
            "protocol": dict(self.protocol),
            "systems": {competitor.name: self._numbers(competitor) for competitor in self.competitors},
        }

    def _numbers(self, competitor: Competitor) -> dict[str, Any]:
        if competitor.failure:
            return {"failure": competitor.failure}
        plain = {
            kind: {score: nan_to_none(vars(found)) for score, found in scores.items()}
            for kind, scores in self.described[competitor.name].items()
        }
        mean = plain.pop(None)
        against = self.against.get(competitor.name)
        uncertainty = {measure: {"mean": value, "sd": sd} for measure, (value, sd) in competitor.uncertainty().items()}
        numbers = {"classes": plain, "mean": mean, "uncertainty": nan_to_none(uncertainty), "cost": competitor.cost()}
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
        results: folders that `cdal evaluate --out` wrote, or folders that hold such (those of a cross validation); several folds of
            one system are taken together. `NAME=FOLDER` gives a system its name.
        reference: name of the system that the others are held against; the first that did not fail if not given.
        score: the score that is tested.
        names: of systems that come first, in this order.
        scoring: the scoring protocol whose scores are compared; the first of each evaluation if not given.

    Raises:
        UserError: a folder holds no evaluation; or the evaluations are of other cases or protocols, and which.
    """
    if score not in SCORES:
        raise UserError(f"no score {score!r}. There are: {', '.join(SCORES)}.")
    competitors = _competitors(list(find_results(results, scoring)))
    competitors = sorted(competitors, key=lambda competitor: [*names, competitor.name].index(competitor.name))
    finished = [competitor for competitor in competitors if not competitor.failure]
    if not finished:
        raise UserError(f"nothing to compare: every system failed. The first says: {competitors[0].failure}")
    reference = reference or finished[0].name
    chosen = next((competitor for competitor in finished if competitor.name == reference), None)
    if chosen is None:
        raise UserError(f"no evaluation of {reference!r}, the reference. There are: {', '.join(c.name for c in finished)}.")
    for competitor in finished:
        _need_the_same(chosen, competitor)
    classes = chosen.results[0].classes
    described = {
        competitor.name: {kind: {s: _describe(competitor, s, kind) for s in SCORES} for kind in (*classes, None)}
        for competitor in finished
    }
    against = _against(chosen, [competitor for competitor in finished if competitor is not chosen], score)
    common = {name: chosen.results[0].protocol.get(name) for name in _SAME}
    return Comparison(tuple(competitors), reference, score, classes, described, against, common)


def _competitors(found: Sequence[Result | Failure]) -> list[Competitor]:
    """One for each name, with its folds in order; a failure of one fold is one of the system."""
    competitors = []
    for name in dict.fromkeys(one.name for one in found):
        results = [one for one in found if isinstance(one, Result) and one.name == name]
        failures = [one.message for one in found if isinstance(one, Failure) and one.name == name]
        trainings = [_training(result) for result in results]
        if twice := [result for result in results if trainings.count(_training(result)) > 1]:
            paths = ", ".join(str(result.path) for result in twice if _training(result) == _training(twice[0]))
            raise UserError(f"several evaluations of {name} on fold {twice[0].fold}: {paths}. Give each a name: NAME=FOLDER.")
        ordered = sorted(results, key=_training)
        competitors.append(Competitor(name, tuple(ordered), failures[0] if failures else ""))
    return competitors


def _training(result: Result) -> tuple[int, int]:
    """Fold and seed, in an order."""
    return (-1 if result.fold is None else result.fold, -1 if result.seed is None else result.seed)


def _need_the_same(one: Competitor, other: Competitor) -> None:
    """Refuse to compare what was not measured alike."""
    folds, theirs = [r.fold for r in one.results], [r.fold for r in other.results]
    if folds != theirs:
        raise UserError(f"{one.name} was evaluated on the folds {folds}, {other.name} on {theirs}. Evaluate both on the same.")
    for mine, yours in zip(one.results, other.results, strict=True):
        differing = [
            f"{name} is {mine.protocol.get(name)!r} there and {yours.protocol.get(name)!r} here"
            for name in _SAME
            if mine.protocol.get(name) != yours.protocol.get(name)
        ]
        if mine.classes != yours.classes:
            differing.append(f"the classes are {', '.join(mine.classes)} there and {', '.join(yours.classes)} here")
        lacking, further = sorted(set(mine.scores) - set(yours.scores)), sorted(set(yours.scores) - set(mine.scores))
        differing += [f"{yours.path} lacks the cases {some(lacking)}"] if lacking else []
        differing += [f"{yours.path} has also the cases {some(further)}"] if further else []
        truths = [result.protocol.get("truth") for result in (mine, yours)]
        if not differing and truths[0] != truths[1]:
            unknown = "one was made by an older version, which kept no checksum of the labels"
            differing.append("the cases have the same names, but other labels" if all(truths) else unknown)
        if differing:
            raise UserError(f"{mine.path} and {yours.path} cannot be compared: {'; '.join(differing)}. Evaluate both alike.")


def _against(reference: Competitor, others: Sequence[Competitor], score: str) -> dict[str, Against]:
    theirs, by_fold = reference.values(score), reference.by_fold(score)
    ours = [other.values(score) for other in others]
    w = holm([wilcoxon(values, theirs) for values in ours])
    p = holm([permutation(values, theirs) for values in ours])
    return {
        other.name: Against(
            nan_mean(values - theirs),
            bootstrap_interval(values - theirs),
            w[i],
            p[i],
            paired_t(other.by_fold(score), by_fold),
        )
        for i, (other, values) in enumerate(zip(others, ours, strict=True))
    }


def _describe(competitor: Competitor, score: str, kind: str | None) -> Description:
    values = competitor.values(score, kind)
    over_folds, over_seeds = (sample_sd(means) for means in (competitor.by_fold(score, kind), competitor.by_seed(score, kind)))
    return Description(nan_mean(values), bootstrap_interval(values), over_folds, over_seeds, int(np.isnan(values).sum()))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
