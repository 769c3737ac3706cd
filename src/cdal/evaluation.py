"""Scores of a model on the cases of a data folder: a table by case, means with intervals, and the protocol they belong to."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cdal import __version__
from cdal.data.cases import read_case, split_cases
from cdal.data.folder import CaseFiles, DataFolder, open_folder
from cdal.data.formats import Image
from cdal.errors import UserError
from cdal.files import replacing
from cdal.metrics import SCORES, bootstrap_interval, case_scores, disagreement_correlation, generalised_energy_distance
from cdal.predictor import Prediction, Predictor, load
from cdal.recipe import CDALSettings

Split = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    Attributes:
        rows: one for each case and class: `case`, `class`, the scores, `seconds`.
        annotators: one for each case with several annotators: `case`, `ged`, `ged_deterministic`, `rank_correlation`.
        classes: names without the background.
        protocol: what the scores were made with.
        failed: a message for each case that could not be read; the scores are without it.
    """

    rows: list[dict[str, Any]]
    annotators: list[dict[str, Any]]
    classes: tuple[str, ...]
    protocol: dict[str, Any]
    failed: dict[str, str]

    def values(self, score: str, name: str | None = None) -> np.ndarray:
        """A score of every case, of one class or averaged over the classes."""
        cases = list(dict.fromkeys(row["case"] for row in self.rows))
        chosen = [name] if name else list(self.classes)
        by_key = {(row["case"], row["class"]): row[score] for row in self.rows}
        return np.array([[by_key[case, k] for k in chosen] for case in cases]).mean(axis=1)

    def summary(self) -> dict[str, Any]:
        """Means over cases, as `cdal evaluate --json` prints them; `interval` holds 95 % bootstrap intervals over cases."""

        def means(name: str | None) -> dict[str, Any]:
            scores: dict[str, Any] = {score: _mean(self.values(score, name)) for score in SCORES}
            intervals = {score: bootstrap_interval(self.values(score, name)) for score in SCORES}
            return scores | {"interval": {score: [_number(end) for end in ends] for score, ends in intervals.items()}}

        seconds = [row["seconds"] for row in self.rows if row["class"] == self.classes[0]]
        summary: dict[str, Any] = {
            "cases": len(seconds),
            "classes": {name: means(name) for name in self.classes},
            "mean": means(None),
            "seconds_per_case": float(np.median(seconds)),
            "protocol": self.protocol,
            "failed": self.failed,
        }
        if self.annotators:
            names = [name for name in self.annotators[0] if name != "case"]
            summary["annotators"] = {name: _mean(np.array([row[name] for row in self.annotators])) for name in names}
        return summary


def evaluate(
    model: Path | str | Predictor,
    data: Path | str,
    fold: int | None = None,
    split: Split = "test",
    votes: int | None = None,
    timesteps: int | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    device: str = "auto",
    on_progress: Callable[[str, int], object] = lambda _name, _count: None,
) -> Evaluation:
    """Segment the cases of one part of a data folder, each on its own grid, and score them against their labels.

    With several annotators the truth is the class that most of them chose; beside it the votes are compared with all of them.

    Args:
        model: see `cdal.load`.
        data: the data folder.
        fold: k; the model's own where none is given.
        split: which cases of the fold; `all` for a data set that the model has not seen.
        votes: V; the recipe's number where none is given.
        timesteps: T of sampling; the recipe's where none is given.
        seed: of every random draw.
        out: a folder for `cases.csv`, `annotators.csv` and `summary.json`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        on_progress: called after each case with its name and the number of all cases.

    Raises:
        UserError: the model or the data cannot be used; or test cases were seen in training.
    """
    predictor = model if isinstance(model, Predictor) else load(model, timesteps, device)
    folder = open_folder(Path(data))
    if folder.classes != predictor.header.classes:
        raise UserError(
            f"{folder.root}: expected the classes {', '.join(predictor.header.classes)}, as in training; "
            f"it declares {', '.join(folder.classes)}."
        )
    fold = predictor.header.recipe.data.fold if fold is None else fold
    cases = _cases(folder, predictor, fold, split)
    twin = _twin(predictor, model, device) if any(len(case.labels) > 1 for case in cases) else None
    rows: list[dict[str, Any]] = []
    annotators: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    made_with: dict[str, Any] = {"seed": seed}
    for case in cases:
        try:
            image, labels = read_case(case, folder.classes)
            began = time.perf_counter()
            prediction = predictor.predict(image, votes, seed, case.name, keep_votes=len(labels) > 1)
            seconds = time.perf_counter() - began
        except UserError as error:
            failed[case.name] = str(error)
            continue
        raters = np.stack([label.array[0] for label in labels])
        scores = case_scores(prediction.mask, majority(raters, len(folder.classes)), folder.classes, image.spacing)
        rows += [{"case": case.name, "class": name, **values, "seconds": seconds} for name, values in scores.items()]
        if len(labels) > 1:
            annotators.append({"case": case.name, **_agreement(prediction, twin, image, raters, case.name, seed)})
        made_with |= {"votes": prediction.count, "unit": "pixels" if image.affine is None else "mm"}
        on_progress(case.name, len(cases))
    if not rows:
        raise UserError("no case could be scored. The first says: " + next(iter(failed.values())))
    evaluation = Evaluation(rows, annotators, folder.classes[1:], _protocol(predictor, folder, fold, split) | made_with, failed)
    if out is not None:
        _write(evaluation, Path(out))
    return evaluation


def majority(raters: np.ndarray, classes: int) -> np.ndarray:
    """The class that most annotators chose, `[R, *S] -> [*S]`; the lower one where two are equal."""
    return np.stack([(raters == k).sum(axis=0) for k in range(classes)]).argmax(axis=0)


def _cases(folder: DataFolder, predictor: Predictor, fold: int, split: Split) -> Sequence[CaseFiles]:
    if split == "all":
        cases: Sequence[CaseFiles] = folder.cases
    else:
        folds = predictor.header.recipe.data.folds
        if not 0 <= fold < folds:
            raise UserError(f"--fold must be 0 to {folds - 1}; it is {fold}.")
        cases = getattr(split_cases(folder, folds, fold), split)
    seen = set(predictor.header.data.get("train", ())) | set(predictor.header.data.get("validation", ()))
    known = [case.name for case in cases if case.name in seen]
    if known and split in ("test", "all"):
        own = predictor.header.recipe.data.fold
        raise UserError(
            f"{len(known)} of the {len(cases)} cases were seen in training ({', '.join(known[:3])}, ...), so their scores would "
            f"say nothing. The model was trained on fold {own}: leave --fold away; or ask for --split train."
        )
    return cases


def _twin(predictor: Predictor, model: Path | str | Predictor, device: str) -> Predictor | None:
    """The same weights without diffusion, where there are any."""
    settings = predictor.recipe.segmenter
    if isinstance(model, Predictor) or not isinstance(settings, CDALSettings) or settings.generator != "fast":
        return None
    return load(model, 0, device)


def _agreement(
    prediction: Prediction, twin: Predictor | None, image: Image, raters: np.ndarray, case: str, seed: int
) -> dict[str, float]:
    classes = len(prediction.probability)
    assert prediction.votes is not None  # asked for
    agreement = {
        "ged": generalised_energy_distance(prediction.votes.argmax(axis=1), raters, classes),
        "rank_correlation": disagreement_correlation(prediction.uncertainty, raters, classes),
    }
    if twin is not None:
        alone = twin.predict(image, 1, seed, case).mask[None]
        agreement["ged_deterministic"] = generalised_energy_distance(alone, raters, classes)
    return agreement


def _protocol(predictor: Predictor, folder: DataFolder, fold: int, split: Split) -> dict[str, Any]:
    recipe = predictor.recipe
    return {
        "recipe": recipe.name,
        "segmenter": recipe.segmenter.name,
        "data": folder.root.name,
        "folds": recipe.data.folds,
        "fold": None if split == "all" else fold,
        "split": split,
        "grid": "the image's own",
        "timesteps": recipe.segmenter.sampling_timesteps if isinstance(recipe.segmenter, CDALSettings) else None,
        "flips": list(recipe.data.flips),
        "empty_masks": "both empty: 1; one empty: 0; distances left out",
        "device": str(predictor.segmenter.device),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "version": __version__,
    }


def _write(evaluation: Evaluation, out: Path) -> None:
    for name, rows in (("cases.csv", evaluation.rows), ("annotators.csv", evaluation.annotators)):
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            with replacing(out / name) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8")
    with replacing(out / "summary.json") as temporary:
        temporary.write_text(json.dumps(evaluation.summary(), indent=1) + "\n", encoding="utf-8")


def _mean(values: np.ndarray) -> float | None:
    """The mean without NaN; none where nothing is left, as JSON knows no NaN."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
