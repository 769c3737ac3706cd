"""Comparison of several systems on the same cases: scores, costs, and tests against a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.competitor import Competitor, competitors_of
from cdal.evaluation.metrics import SCORES, bootstrap_interval, nan_mean, nan_to_none, sample_sd
from cdal.evaluation.result import Result, find_results
from cdal.evaluation.significance import holm, paired_t, permutation, wilcoxon
from cdal.runtime.errors import UserError, first_few

_SAME = ("data", "partition", "folds", "split", "scoring", "unit", "empty_masks")
"""Protocol entries that two evaluations must share, besides the cases of a fold and their truth."""


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
        ged: statistics of the distance to several annotators (`cdal.evaluation.agreement`) by name
            of the system; empty if not all systems have it.
        ged_against: tests of it, as in `against`.
    """

    competitors: tuple[Competitor, ...]
    reference: str
    score: str
    classes: tuple[str, ...]
    described: Mapping[str, Mapping[str | None, Mapping[str, Description]]]
    against: Mapping[str, Against]
    protocol: Mapping[str, Any]
    ged: Mapping[str, Description] = field(default_factory=dict)
    ged_against: Mapping[str, Against] = field(default_factory=dict)

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
        further = {
            "against_reference": against,
            "ged": self.ged.get(competitor.name),
            "ged_against_reference": self.ged_against.get(competitor.name),
        }
        return numbers | {name: nan_to_none(vars(one)) for name, one in further.items() if one}


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
    competitors = competitors_of(list(find_results(results, scoring)))
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
    others = [competitor for competitor in finished if competitor is not chosen]
    several = all(result.annotators for competitor in finished for result in competitor.results)
    return Comparison(
        tuple(competitors),
        reference,
        score,
        classes,
        described,
        _against(chosen, others, score),
        {name: chosen.results[0].protocol.get(name) for name in _SAME},
        {one.name: _describe(one, "ged", None) for one in finished} if several else {},
        _against(chosen, others, "ged") if several else {},
    )


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
