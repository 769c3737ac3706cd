"""The result of an evaluation: what it holds, how it is written, and how it is read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.calibration import Certainty, summary_of
from cdal.evaluation.metrics import SCORES, bootstrap_interval, nan_mean, nan_to_none
from cdal.evaluation.pictures import certainty_figure
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_figure, write_json, write_text

FAILURE = "failed.json"
"""What a cross validation leaves in the folder of a run that failed."""


@dataclass(frozen=True)
class Result:
    """One evaluation: of one system on one fold, trained once.

    Attributes:
        path: its folder.
        name: of the system.
        protocol: how the scores were made.
        seconds: median for a case.
        cost: see `Evaluation.cost`.
        classes: names without the background.
        scores: `{case: {score: [classes]}}`.
        uncertainty: by measure (`cdal.evaluation.calibration.summary_of`, `cdal.evaluation.agreement`), means over the cases.
    """

    path: Path
    name: str
    protocol: Mapping[str, Any]
    seconds: float
    cost: Mapping[str, Any]
    classes: tuple[str, ...]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    uncertainty: Mapping[str, float]

    @property
    def fold(self) -> int | None:
        """Which fold; none where all cases were scored."""
        fold: int | None = self.protocol["fold"]
        return fold

    @property
    def seed(self) -> int | None:
        """Of its training; none if an older version did not keep it."""
        seed: int | None = self.protocol.get("training_seed")
        return seed

    def values(self, score: str, kind: str | None = None) -> np.ndarray:
        """A score of every case: of one class, or the mean over the classes."""
        where = [self.classes.index(kind)] if kind is not None else list(range(len(self.classes)))
        return np.array([scores[score][where].mean() for scores in self.scores.values()])


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        name: of the system.
        message: where it failed and why.
    """

    name: str
    message: str


def read_result(folder: Path, name: str | None = None, scoring: str | None = None) -> Result:
    """One evaluation; arguments as those of `compare`.

    Raises:
        UserError: the folder holds none, it is damaged, or was not scored by that protocol.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        protocol = dict(summary["protocol"])
        protocol["fold"]  # each must be there
        scorings = [protocol["scoring"], *summary.get("also", {})]
        protocol["scoring"] = scoring or scorings[0]
        with (folder / CASES).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["scoring"] == protocol["scoring"]]
        by_key = {(row["case"], row["class"]): {score: float(row[score]) for score in SCORES} for row in rows}
        classes = tuple(dict.fromkeys(kind for _, kind in by_key))
        scores = {
            case: {score: np.array([by_key[case, kind][score] for kind in classes]) for score in SCORES}
            for case in sorted({case for case, _ in by_key})
        }
        if scoring and scoring not in scorings:
            raise UserError(f"{folder} was not scored by {scoring}, but by {', '.join(scorings)}. Evaluate it with --scoring.")
        if not scores:
            raise ValueError("no case")
        cost = summary.get("cost") or {}
        told = {**summary.get("uncertainty", {}), **summary.get("annotators", {})}
        uncertainty = {measure: value for measure, value in told.items() if isinstance(value, float)}
        seconds = summary["seconds_per_case"]
        return Result(folder, name or protocol["segmenter"], protocol, seconds, cost, classes, scores, uncertainty)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder} is no evaluation: {error!r}. Expected {SUMMARY} and {CASES}, of cdal evaluate --out.") from error


def find_results(results: Sequence[Path | str], scoring: str | None) -> Iterator[Result | Failure]:
    """Every evaluation and every failure in the folders."""
    for given in results:
        name, folder = _named(str(given))
        summaries = sorted(folder.rglob(SUMMARY))
        failures = [folder] if folder.name == FAILURE else sorted(folder.rglob(FAILURE))
        if not summaries and not failures:
            raise UserError(f"{folder} holds no evaluation. Expected a folder that cdal evaluate --out wrote, with its {SUMMARY}.")
        yield from (read_result(summary.parent, name, scoring) for summary in summaries)
        yield from (read_failure(failure, name) for failure in failures)


def read_failure(path: Path, name: str | None = None) -> Failure:
    """Why a run failed, as a cross validation wrote it.

    Raises:
        UserError: the file is damaged.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Failure(name or str(said["segmenter"]), f"fold {said['fold']}, {said['stage']}: {said['message']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error!r}. Take it away, and run the cross validation again.") from error


CASES, CERTAINTIES, PICTURE, SUMMARY = "cases.csv", "uncertainty.csv", "uncertainty.png", "summary.json"
"""What an evaluation leaves in its folder, beside the table of annotators."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    Attributes:
        rows: one for each scoring protocol, case and class: `scoring`, `case`, `class`, the scores, `seconds`.
        annotators: one for each case with several annotators: `case`, the measures of `cdal.evaluation.agreement.agreement`,
            `rank_correlation`, and `ged_deterministic` where the model has a twin without diffusion.
        certainties: of each case, see `cdal.evaluation.calibration`.
        classes: names without the background.
        protocol: what the scores were made with.
        failed: a message for each case that could not be read; the scores are without it.
        cost: `parameters`; `gigaflops` of the first case, with all its votes and windows: convolutions and matrix products;
            `peak_memory` of this process in GiB; what the `training` took, where the model lies in its run folder.
    """

    rows: list[dict[str, Any]]
    annotators: list[dict[str, Any]]
    certainties: dict[str, Certainty]
    classes: tuple[str, ...]
    protocol: dict[str, Any]
    failed: dict[str, str]
    cost: dict[str, Any]

    def values(self, score: str, name: str | None = None, scoring: str | None = None) -> np.ndarray:
        """A score of every case, of one class or averaged over the classes; by the first protocol where none is said."""
        scoring = scoring or self.scorings[0]
        rows = [row for row in self.rows if row["scoring"] == scoring]
        cases = list(dict.fromkeys(row["case"] for row in rows))
        chosen = [name] if name else list(self.classes)
        by_key = {(row["case"], row["class"]): row[score] for row in rows}
        return np.array([[by_key[case, k] for k in chosen] for case in cases]).mean(axis=1)

    @property
    def scorings(self) -> tuple[str, ...]:
        """The scoring protocols."""
        return tuple(dict.fromkeys(row["scoring"] for row in self.rows))

    def summary(self) -> dict[str, Any]:
        """Means over cases, as `cdal evaluate --json` prints them; `interval` holds 95 % bootstrap intervals over cases.

        The scores of the first protocol stand outside, those of any others in `also`.
        """

        def means(scoring: str) -> dict[str, Any]:
            return {"classes": {k: self._means(k, scoring) for k in self.classes}, "mean": self._means(None, scoring)}

        first, *others = self.scorings
        seconds = [row["seconds"] for row in self.rows if row["class"] == self.classes[0] and row["scoring"] == first]
        summary: dict[str, Any] = {
            "cases": len(seconds),
            **means(first),
            "uncertainty": summary_of(list(self.certainties.values()), self.values("dice")),
            "seconds_per_case": float(np.median(seconds)),
            "protocol": {"scoring": first, **self.protocol},
            "cost": self.cost,
            "failed": self.failed,
        }
        if others:
            summary["also"] = {scoring: means(scoring) for scoring in others}
        if self.annotators:
            names = [name for name in self.annotators[0] if name != "case"]
            summary["annotators"] = {name: nan_mean(np.array([row[name] for row in self.annotators])) for name in names}
        plain: dict[str, Any] = nan_to_none(summary)
        return plain

    def _means(self, name: str | None, scoring: str) -> dict[str, Any]:
        values = {score: self.values(score, name, scoring) for score in SCORES}
        intervals = {score: bootstrap_interval(of_cases) for score, of_cases in values.items()}
        return {**{score: nan_mean(of_cases) for score, of_cases in values.items()}, "interval": intervals}


def write_result(evaluation: Evaluation, out: Path) -> None:
    """Write the tables, the picture and the summary of an evaluation into a folder."""
    certainties = [{"case": case, **found.scores} for case, found in evaluation.certainties.items()]
    for name, rows in ((CASES, evaluation.rows), ("annotators.csv", evaluation.annotators), (CERTAINTIES, certainties)):
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            write_text(out / name, text.getvalue())
    summary = evaluation.summary()
    write_figure(out / PICTURE, certainty_figure(summary["uncertainty"]))
    write_json(out / SUMMARY, summary)


def _named(given: str) -> tuple[str | None, Path]:
    """`NAME=FOLDER` or `FOLDER`, either of which may have further equals signs."""
    if Path(given).exists():
        return None, Path(given)
    parts = given.split("=")
    for i in range(1, len(parts)):
        folder = Path("=".join(parts[i:]))
        if folder.exists():
            return "=".join(parts[:i]) or None, folder
    return None, Path(given)
