"""Results of evaluations: their content, and how they are written and read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.agreement import AGREEMENT
from cdal.evaluation.calibration import Certainty, summary_of
from cdal.evaluation.judged import summary_of_judged
from cdal.evaluation.metrics import SCORES, bootstrap_interval, nan_mean, nan_to_none
from cdal.evaluation.pictures import certainty_figure
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_figure, write_json, write_text
from cdal.runtime.text import cell_text, text_cell

FAILURE = "failed.json"
"""File that a cross-validation writes into the folder of a failed run."""


@dataclass(frozen=True)
class Result:
    """One evaluation as read from its folder: one system on one fold, trained once.

    Attributes:
        path: folder of the evaluation.
        name: name of the system.
        protocol: settings that the scores were made with.
        seconds: median time per case, in seconds.
        cost: cost of training and prediction, see `Evaluation.cost`.
        classes: names of the classes without the background.
        scores: scores of every case, `{case: {score: [classes]}}`.
        uncertainty: means over the cases by measure, see `cdal.evaluation.calibration.summary_of`
            and `cdal.evaluation.agreement`.
        annotators: measures of agreement of every case with several annotators, `{case: {measure:
            value}}`.
    """

    path: Path
    name: str
    protocol: Mapping[str, Any]
    seconds: float
    cost: Mapping[str, Any]
    classes: tuple[str, ...]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    uncertainty: Mapping[str, float]
    annotators: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def fold(self) -> int | None:
        """Number of the fold; `None` if all cases were scored."""
        fold: int | None = self.protocol["fold"]
        return fold

    @property
    def seed(self) -> int | None:
        """Random seed of the training; `None` if it has several, or if it is not recorded."""
        seed: int | None = self.protocol.get("training_seed")
        return seed

    @property
    def members(self) -> int:
        """Number of models that voted together; 0 for a single model."""
        return int(self.protocol.get("members") or 0)

    def values(self, score: str, kind: str | None = None) -> np.ndarray:
        """A score of every case, for one class or as the mean over the classes.

        Args:
            score: name of the score, or of a measure of agreement (`AGREEMENT`), which has no
                classes and is NaN for cases with one annotator.
            kind: name of the class; `None` for the mean over the classes.
        """
        if score in AGREEMENT:
            measured = [self.annotators.get(case, {}) for case in self.scores]
            return np.array([measures.get(score, np.nan) for measures in measured])
        positions = (
            [self.classes.index(kind)] if kind is not None else list(range(len(self.classes)))
        )
        return np.array([scores[score][positions].mean() for scores in self.scores.values()])


@dataclass(frozen=True)
class Failure:
    """A failed run.

    Attributes:
        name: name of the system.
        message: place and reason of the failure.
    """

    name: str
    message: str


def read_result(folder: Path, name: str | None = None, scoring: str | None = None) -> Result:
    """Read one evaluation from its folder.

    Args:
        folder: folder that `cdal evaluate --out` wrote.
        name: name of the system; by default the name of its segmenter.
        scoring: scoring protocol to read; by default the first one.

    Raises:
        UserError: the folder holds no evaluation, the evaluation is damaged, or it was not scored
            by that protocol.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        protocol = dict(summary["protocol"])
        protocol["fold"]  # every evaluation must have one
        scorings = [protocol["scoring"], *summary.get("also", {})]
        protocol["scoring"] = scoring or scorings[0]
        with (folder / CASES).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["scoring"] == protocol["scoring"]]
        by_key = {
            (cell_text(row["case"]), cell_text(row["class"])): {
                score: _score(row[score]) for score in SCORES
            }
            for row in rows
        }
        classes = tuple(dict.fromkeys(kind for _, kind in by_key))
        scores = {
            case: {
                score: np.array([by_key[case, kind][score] for kind in classes]) for score in SCORES
            }
            for case in sorted({case for case, _ in by_key})
        }
        if scoring and scoring not in scorings:
            raise UserError(
                f"{folder} was not scored by {scoring}, but by {', '.join(scorings)}. Evaluate it "
                "with --scoring."
            )
        if not scores:
            raise ValueError("no case")
        cost = summary.get("cost") or {}
        measures = {**summary.get("uncertainty", {}), **summary.get("annotators", {})}
        uncertainty = {
            measure: value for measure, value in measures.items() if isinstance(value, float)
        }
        seconds = summary["seconds_per_case"]
        return Result(
            folder,
            name or protocol["segmenter"],
            protocol,
            seconds,
            cost,
            classes,
            scores,
            uncertainty,
            _read_annotators(folder / ANNOTATORS),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder} is no evaluation: {error!r}. Expected {SUMMARY} and {CASES} from cdal "
            "evaluate --out."
        ) from error


def _score(text: str) -> float:
    """A score of a case, which may be NaN but not infinite."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"a score is {text:.40}")
    return value


def _read_annotators(path: Path) -> dict[str, dict[str, float]]:
    """Measures of agreement of each case; empty if no case has several annotators."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {
            cell_text(row["case"]): {name: _score(row[name]) for name in AGREEMENT if name in row}
            for row in csv.DictReader(file)
        }


def find_results(results: Sequence[Path | str], scoring: str | None) -> Iterator[Result | Failure]:
    """Read all evaluations and failures in the folders.

    Args:
        results: folders, or `NAME=FOLDER` to name the system, as in
            `cdal.evaluation.comparison.compare`.
        scoring: scoring protocol to read; `None` for the first one of each evaluation.

    Raises:
        UserError: a folder holds neither an evaluation nor a failure, or one of them cannot be
            read.
    """
    for given in results:
        name, folder = _named(str(given))
        summaries = sorted(folder.rglob(SUMMARY))
        failures = [folder] if folder.name == FAILURE else sorted(folder.rglob(FAILURE))
        if not summaries and not failures:
            raise UserError(
                f"{folder} holds no evaluation. Expected a folder that cdal evaluate --out wrote, "
                f"with its {SUMMARY}."
            )
        yield from (read_result(summary.parent, name, scoring) for summary in summaries)
        yield from (read_failure(failure, name) for failure in failures)


def read_failure(path: Path, name: str | None = None) -> Failure:
    """Read the failure of a run, as a cross-validation wrote it.

    Args:
        path: path of the file.
        name: name of the system; by default the one in the file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        failure = json.loads(path.read_text(encoding="utf-8"))
        message = f"fold {failure['fold']}, {failure['stage']}: {failure['message']}"
        return Failure(name or str(failure["segmenter"]), message)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: {error!r}. Delete it and run the cross-validation again."
        ) from error


CASES, ANNOTATORS, CERTAINTIES, PICTURE, SUMMARY = (
    "cases.csv",
    "annotators.csv",
    "uncertainty.csv",
    "uncertainty.png",
    "summary.json",
)
"""Files of an evaluation; there may be `annotators.csv` and `quality.csv`, too."""


@dataclass(frozen=True)
class Evaluation:
    """Outcome of an evaluation.

    Attributes:
        rows: one row for each scoring protocol, case and class: `scoring`, `case`, `class`, the
            scores and `seconds`.
        annotators: one row for each case with several annotators: `case`, the measures of
            `cdal.evaluation.agreement.agreement`, `rank_correlation` and, if the model has a twin
            without diffusion, `ged_deterministic`.
        judged: one row for each case and class with what was estimated of its quality, see
            `cdal.evaluation.judged.judged_rows`; none of cases that the estimates were fitted on.
        certainties: certainty of each case, see `cdal.evaluation.calibration`.
        classes: names of the classes without the background.
        protocol: settings that the scores were made with.
        failed: error messages of the cases that could not be read; these cases have no scores.
        cost: `parameters` is the number of parameters. `gigaflops` counts the convolutions and
            matrix products of the first case, all votes and windows included. `peak_memory` is that
            of this process in GiB. `training` is the cost of the training, empty if the model is
            not in its run folder.
    """

    rows: list[dict[str, Any]]
    annotators: list[dict[str, Any]]
    judged: list[dict[str, Any]]
    certainties: dict[str, Certainty]
    classes: tuple[str, ...]
    protocol: dict[str, Any]
    failed: dict[str, str]
    cost: dict[str, Any]

    def values(self, score: str, name: str | None = None, scoring: str | None = None) -> np.ndarray:
        """A score of every case, for one class or as the mean over the classes.

        Args:
            score: name of the score.
            name: name of the class; `None` for the mean over the classes.
            scoring: scoring protocol; `None` for the first one.
        """
        scoring = scoring or self.scorings[0]
        rows = [row for row in self.rows if row["scoring"] == scoring]
        cases = list(dict.fromkeys(row["case"] for row in rows))
        kinds = [name] if name else list(self.classes)
        by_key = {(row["case"], row["class"]): row[score] for row in rows}
        return np.array([[by_key[case, kind] for kind in kinds] for case in cases]).mean(axis=1)

    @property
    def scorings(self) -> tuple[str, ...]:
        """Names of the scoring protocols."""
        return tuple(dict.fromkeys(row["scoring"] for row in self.rows))

    def summary(self) -> dict[str, Any]:
        """Means over cases, as `cdal evaluate --json` prints them.

        `interval` holds 95 % bootstrap intervals over cases. The scores of the first scoring
        protocol are at the top level, those of the other protocols under `also`.
        """

        def means(scoring: str) -> dict[str, Any]:
            return {
                "classes": {k: self._means(k, scoring) for k in self.classes},
                "mean": self._means(None, scoring),
            }

        first, *further = self.scorings
        seconds = [
            row["seconds"]
            for row in self.rows
            if row["class"] == self.classes[0] and row["scoring"] == first
        ]
        summary: dict[str, Any] = {
            "cases": len(seconds),
            **means(first),
            "uncertainty": summary_of(list(self.certainties.values()), self.values("dice")),
            "seconds_per_case": float(np.median(seconds)),
            "protocol": {"scoring": first, **self.protocol},
            "cost": self.cost,
            "failed": self.failed,
        }
        if further:
            summary["also"] = {scoring: means(scoring) for scoring in further}
        if self.annotators:
            names = [name for name in self.annotators[0] if name != "case"]
            summary["annotators"] = {
                name: nan_mean(np.array([row[name] for row in self.annotators])) for name in names
            }
        if self.judged:
            summary["quality"] = summary_of_judged(self.judged)
        plain: dict[str, Any] = nan_to_none(summary)
        return plain

    def _means(self, name: str | None, scoring: str) -> dict[str, Any]:
        values = {score: self.values(score, name, scoring) for score in SCORES}
        intervals = {score: bootstrap_interval(of_cases) for score, of_cases in values.items()}
        return {
            **{score: nan_mean(of_cases) for score, of_cases in values.items()},
            "interval": intervals,
        }


def write_result(evaluation: Evaluation, out: Path) -> None:
    """Write the tables, the picture and the summary of an evaluation into a folder."""
    certainties = [
        {"case": case, **certainty.scores} for case, certainty in evaluation.certainties.items()
    ]
    for name, rows in (
        (CASES, evaluation.rows),
        (ANNOTATORS, evaluation.annotators),
        ("quality.csv", evaluation.judged),
        (CERTAINTIES, certainties),
    ):
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(map(_safe, rows))
            write_text(out / name, text.getvalue())
    summary = evaluation.summary()
    write_figure(out / PICTURE, certainty_figure(summary["uncertainty"]))
    write_json(out / SUMMARY, summary)


def _safe(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose texts no spreadsheet takes for formulas."""
    return {
        name: text_cell(value) if isinstance(value, str) else value for name, value in row.items()
    }


def _named(given: str) -> tuple[str | None, Path]:
    """Split `NAME=FOLDER` or `FOLDER`; both parts may contain further equals signs."""
    if Path(given).exists():
        return None, Path(given)
    parts = given.split("=")
    for i in range(1, len(parts)):
        folder = Path("=".join(parts[i:]))
        if folder.exists():
            return "=".join(parts[:i]) or None, folder
    return None, Path(given)
