"""Several systems on the same cases: what each reached, what it cost, and whether it differs from the one they are held against."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.errors import UserError, some
from cdal.metrics import SCORES, bootstrap_interval
from cdal.significance import holm, paired_t, permutation, wilcoxon

CASES, SUMMARY, FAILURE = "cases.csv", "summary.json", "failed.json"
"""What an evaluation leaves in its folder; and what a cross validation leaves where a system failed."""

MEAN = "mean"
"""The mean over the classes."""

_SAME = ("data", "partition", "folds", "split", "scoring", "unit", "empty_masks")
"""What two evaluations must have in common, beside the cases of a fold and their truth."""


@dataclass(frozen=True)
class Result:
    """One evaluation: of one system on one fold.

    Attributes:
        path: its folder.
        name: of the system.
        summary: what `cdal evaluate` said.
        scores: `{(case, class): {score: value}}` by the first scoring protocol.
    """

    path: Path
    name: str
    summary: Mapping[str, Any]
    scores: Mapping[tuple[str, str], Mapping[str, float]]

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How the scores were made."""
        protocol: Mapping[str, Any] = self.summary["protocol"]
        return protocol

    @property
    def fold(self) -> Any:
        """Which fold; none where all cases were scored."""
        return self.protocol["fold"]

    @property
    def cases(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted({case for case, _ in self.scores}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names without the background."""
        return tuple(dict.fromkeys(name for _, name in self.scores))

    def values(self, score: str, name: str = MEAN) -> np.ndarray:
        """A score of every case."""
        names = self.classes if name == MEAN else (name,)
        return np.array([[self.scores[case, k][score] for k in names] for case in self.cases]).mean(axis=1)


@dataclass(frozen=True)
class Competitor:
    """A system and its evaluations, the folds in order; or why there are none.

    Attributes:
        name: of the system.
        results: one for each fold.
        failure: what went wrong, where something did; the results are then left out of the comparison.
    """

    name: str
    results: tuple[Result, ...]
    failure: str = ""

    def values(self, score: str, name: str = MEAN) -> np.ndarray:
        """A score of every case of every fold."""
        return np.concatenate([result.values(score, name) for result in self.results])

    def by_fold(self, score: str, name: str = MEAN) -> np.ndarray:
        """The mean of each fold."""
        return np.array([np.nanmean(result.values(score, name)) for result in self.results])

    def cost(self) -> dict[str, float | None]:
        """Parameters, gigaflops, seconds an image, minutes and steps of training, and GiB: medians over folds, none if unknown."""
        costs = [result.summary.get("cost", {}) for result in self.results]
        training = [cost.get("training", {}) for cost in costs]
        return {
            "parameters": _median(cost.get("parameters") for cost in costs),
            "gigaflops": _median(cost.get("gigaflops") for cost in costs),
            "seconds_per_image": _median(result.summary["seconds_per_case"] for result in self.results),
            "training_minutes": _median(t["seconds"] / 60 if "seconds" in t else None for t in training),
            "training_steps": _median(t.get("steps") for t in training),
            "peak_memory_gib": _median(t.get("peak_memory") for t in training),
        }


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
        against: by name, for all but the reference and those that failed.
        protocol: what all evaluations have in common.
    """

    competitors: tuple[Competitor, ...]
    reference: str
    score: str
    classes: tuple[str, ...]
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
        scores = {name: {score: _describe(competitor, score, name) for score in SCORES} for name in (*self.classes, MEAN)}
        against = self.against.get(competitor.name)
        numbers = {"cases": len(competitor.values(self.score)), "scores": scores, "cost": competitor.cost()}
        return numbers | ({"against_reference": _plain(vars(against))} if against else {})


def compare(
    results: Sequence[Path | str], reference: str | None = None, score: str = "dice", names: Sequence[str] | None = None
) -> Comparison:
    """Compare evaluations of several systems on the same cases.

    Args:
        results: folders that `cdal evaluate --out` wrote, or folders that hold such (those of a cross validation); several folds of
            one system are taken together. `NAME=FOLDER` gives a system its name.
        reference: name of the system that the others are held against; the first if not given.
        score: the score that is tested.
        names: the order of the systems; as they come if not given.

    Raises:
        UserError: a folder holds no evaluation; or the evaluations are of other cases or protocols, and which.
    """
    if score not in SCORES:
        raise UserError(f"no score {score!r}. There are: {', '.join(SCORES)}.")
    competitors = _competitors(list(_found(results)))
    if names is not None:
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
    common = {name: chosen.results[0].protocol.get(name) for name in _SAME}
    against = _against(chosen, [competitor for competitor in finished if competitor is not chosen], score)
    return Comparison(tuple(competitors), reference, score, chosen.results[0].classes, against, common)


def read_result(folder: Path, name: str | None = None) -> Result:
    """One evaluation.

    Raises:
        UserError: the folder holds none, or it is damaged.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        first = summary["protocol"]["scoring"]
        with (folder / CASES).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["scoring"] == first]
        scores = {(row["case"], row["class"]): {score: float(row[score]) for score in SCORES} for row in rows}
        return Result(folder, name or summary["protocol"]["segmenter"], summary, scores)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no evaluation: {error!r}. Expected {SUMMARY} and {CASES}, of cdal evaluate --out.") from error


def _found(results: Sequence[Path | str]) -> Iterator[Result | Competitor]:
    """Every evaluation and every failure in the folders."""
    for given in results:
        name, _, path = str(given).rpartition("=") if not Path(given).is_dir() else ("", "", str(given))
        folder = Path(path)
        summaries = sorted(folder.rglob(SUMMARY))
        failures = sorted(folder.rglob(FAILURE))
        if not summaries and not failures:
            raise UserError(f"{folder} holds no evaluation. Expected a folder that cdal evaluate --out wrote, with its {SUMMARY}.")
        yield from (read_result(summary.parent, name or None) for summary in summaries)
        for path_ in failures:
            failed = json.loads(path_.read_text(encoding="utf-8"))
            yield Competitor(name or failed["segmenter"], (), f"fold {failed['fold']}, {failed['stage']}: {failed['message']}")


def _competitors(found: Sequence[Result | Competitor]) -> list[Competitor]:
    """One for each name, with its folds in order; a failure of one fold is one of the system."""
    competitors = []
    for name in dict.fromkeys(one.name for one in found):
        results = [one for one in found if isinstance(one, Result) and one.name == name]
        failures = [one.failure for one in found if isinstance(one, Competitor) and one.name == name]
        folds = [result.fold for result in results]
        if twice := [fold for fold in folds if folds.count(fold) > 1]:
            paths = ", ".join(str(result.path) for result in results if result.fold == twice[0])
            raise UserError(f"several evaluations of {name} on fold {twice[0]}: {paths}. Give each a name: NAME=FOLDER.")
        ordered = sorted(results, key=lambda result: -1 if result.fold is None else result.fold)
        competitors.append(Competitor(name, tuple(ordered), failures[0] if failures else ""))
    return competitors


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
        lacking = [case for case in mine.cases if case not in set(yours.cases)]
        further = [case for case in yours.cases if case not in set(mine.cases)]
        differing += [f"{yours.path} lacks the cases {some(lacking)}"] if lacking else []
        differing += [f"{yours.path} has also the cases {some(further)}"] if further else []
        if not differing and mine.protocol.get("truth") != yours.protocol.get("truth"):
            differing.append("the cases have the same names, but other labels or another order")
        if differing:
            raise UserError(f"{mine.path} and {yours.path} cannot be compared: {'; '.join(differing)}. Evaluate both alike.")


def _against(reference: Competitor, others: Sequence[Competitor], score: str) -> dict[str, Against]:
    theirs, by_fold = reference.values(score), reference.by_fold(score)
    ours = [other.values(score) for other in others]
    w = holm([wilcoxon(values, theirs) for values in ours])
    p = holm([permutation(values, theirs) for values in ours])
    return {
        other.name: Against(
            float(np.nanmean(values - theirs)),
            bootstrap_interval(values - theirs),
            w[i],
            p[i],
            paired_t(other.by_fold(score), by_fold),
        )
        for i, (other, values) in enumerate(zip(others, ours, strict=True))
    }


def _describe(competitor: Competitor, score: str, name: str) -> dict[str, Any]:
    """Mean over cases with its interval, and the standard deviation over folds (of the sample, as the paper's)."""
    values, folds = competitor.values(score, name), competitor.by_fold(score, name)
    there = values[~np.isnan(values)]
    return _plain(
        {
            "mean": float(there.mean()) if len(there) else math.nan,
            "sd_over_folds": float(folds.std(ddof=1)) if len(folds) > 1 else math.nan,
            "interval": bootstrap_interval(values),
        }
    )


def _median(values: Iterator[float | None] | Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as none, which JSON knows; tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return {name: plain(value) for name, value in values.items()}
