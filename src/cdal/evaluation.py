"""Scores of a model on the cases of a data folder: a table by case, means with intervals, and the protocol they belong to."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from cdal import __version__
from cdal.agreement import agreement, disagreement_correlation, generalised_energy_distance
from cdal.calibration import Certainty, certainty, summary_of
from cdal.cost import peak_memory
from cdal.data.check import check_folder
from cdal.data.folder import CaseFiles, DataFolder, open_folder
from cdal.data.grid import resized
from cdal.data.image import Image, image_digest
from cdal.data.partition import fold_count, split_cases
from cdal.data.reading import read_case, read_channels
from cdal.engine import TorchEngine
from cdal.errors import UserError
from cdal.files import write_figure, write_json, write_text
from cdal.metrics import bootstrap_interval, case_scores, nan_mean, nan_to_none
from cdal.model_header import find_model
from cdal.predictor import Prediction, Predictor, load
from cdal.protocols import PROTOCOLS, Protocol
from cdal.recipe import CDALSettings
from cdal.report import certainty_figure
from cdal.run_folder import kept_cost
from cdal.scores import DISTANCES, SCORES

CASES, CERTAINTIES, PICTURE, SUMMARY = "cases.csv", "uncertainty.csv", "uncertainty.png", "summary.json"
"""What an evaluation leaves in its folder, beside the table of annotators."""

Part = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    Attributes:
        rows: one for each scoring protocol, case and class: `scoring`, `case`, `class`, the scores, `seconds`.
        annotators: one for each case with several annotators: `case`, the measures of `cdal.agreement.agreement`,
            `rank_correlation`, and `ged_deterministic` where the model has a twin without diffusion.
        certainties: of each case, see `cdal.calibration`.
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


def evaluate(
    model: Path | str | Predictor,
    data: Path | str,
    fold: int | None = None,
    split: Part = "test",
    votes: int | None = None,
    timesteps: int | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    device: str = "auto",
    on_progress: Callable[[str, int], object] = lambda _name, _count: None,
    scorings: Sequence[str] | None = None,
    mirror: bool | None = None,
    components: int | None = None,
    temperature: float | None = None,
) -> Evaluation:
    """Segment the cases of one part of a data folder and score them against their labels.

    With several annotators the truth is the class that most of them chose; beside it the votes are compared with all of them.

    Args:
        model: see `cdal.load`.
        data: the data folder.
        fold: k; the model's own where none is given.
        split: which cases of the fold; `all` for a data set that the model has not seen.
        votes: V; the recipe's number where none is given.
        timesteps: T of sampling; the recipe's where none is given.
        seed: of every random draw.
        out: a folder for `cases.csv`, `uncertainty.csv`, `annotators.csv`, `uncertainty.png` and `summary.json`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        on_progress: called after each case with its name and the number of all cases.
        scorings: names of scoring protocols (`cdal.protocols`); the recipe's where none are given.
        mirror: see `cdal.load`.
        components: see `cdal.load`.
        temperature: see `cdal.load`.

    Raises:
        UserError: the model or the data cannot be used; or test cases were seen in training.
    """
    predictor = model if isinstance(model, Predictor) else load(model, timesteps, device, mirror, components, temperature)
    folder = open_folder(Path(data))
    if folder.classes != predictor.header.classes:
        raise UserError(
            f"{folder.root}: expected the classes {', '.join(predictor.header.classes)}, as in training; "
            f"it declares {', '.join(folder.classes)}."
        )
    protocols = [find_protocol(name) for name in dict.fromkeys(scorings or predictor.recipe.data.protocols)]
    fold = predictor.header.recipe.data.fold if fold is None else fold
    cases = _cases(folder, predictor, fold, split)
    twin = _twin(predictor, model, device) if any(len(case.labels) > 1 for case in cases) else None
    evaluation = Evaluation([], [], {}, folder.classes[1:], _protocol(predictor, folder, fold, split) | {"seed": seed}, {}, {})
    truths = hashlib.sha256()
    for case in cases:
        try:
            image, labels = read_case(case, folder)
            began = time.perf_counter()
            with nullcontext() if evaluation.rows else FlopCounterMode(display=False) as operations:
                prediction = predictor.predict(image, votes, seed, case.name, keep_votes=len(labels) > 1)
            seconds = time.perf_counter() - began
            if operations is not None and isinstance(predictor.engine, TorchEngine):  # no other engine's can be counted
                evaluation.cost["gigaflops"] = operations.get_total_flops() / 1e9
        except UserError as error:
            evaluation.failed[case.name] = str(error)
        else:
            raters = np.stack([label.array[0] for label in labels])
            truths.update(repr((case.name, raters.shape)).encode() + raters.tobytes())
            evaluation.rows.extend(_rows(prediction, raters, protocols, folder.classes, image, case.name, seconds))
            several = prediction.count > 1
            evaluation.certainties[case.name] = certainty(
                prediction.probability, prediction.uncertainty if several else None, majority(raters, len(folder.classes))
            )
            if len(labels) > 1:
                evaluation.annotators.append({"case": case.name, **_agreement(prediction, twin, image, raters, case.name, seed)})
            evaluation.protocol.update(votes=prediction.count, unit="pixels" if image.affine is None else "mm")
        on_progress(case.name, len(cases))
    if not evaluation.rows:
        raise UserError("no case could be scored. The first says: " + next(iter(evaluation.failed.values())))
    evaluation.protocol["truth"] = truths.hexdigest()[:16]
    evaluation.cost.update(
        parameters=predictor.engine.parameters,
        peak_memory=peak_memory(),
        training={} if isinstance(model, Predictor) else kept_cost(find_model(model).parent),
    )
    if out is not None:
        _write(evaluation, Path(out))
    return evaluation


def majority(raters: np.ndarray, classes: int) -> np.ndarray:
    """The class that most annotators chose, `[R, *S] -> [*S]`; the lower one where two are equal."""
    return np.stack([(raters == k).sum(axis=0) for k in range(classes)]).argmax(axis=0)


def _rows(
    prediction: Prediction,
    raters: np.ndarray,
    protocols: Sequence[Protocol],
    classes: tuple[str, ...],
    image: Image,
    case: str,
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """A row for each scoring protocol and class, against the annotators' majority."""
    truth = majority(raters, len(classes))
    for protocol in protocols:
        scores = _scores(prediction, truth, protocol, classes, image)
        yield from (
            {"scoring": protocol.name, "case": case, "class": name, **values, "seconds": seconds} for name, values in scores.items()
        )


def _scores(
    prediction: Prediction, truth: np.ndarray, protocol: Protocol, classes: tuple[str, ...], image: Image
) -> dict[str, dict[str, float]]:
    if protocol.size is None:
        return case_scores(prediction.mask, truth, classes, image.spacing)
    if truth.ndim != 2:
        raise UserError(f"the scoring protocol {protocol.name} is for pictures; {classes} are of a volume. Take own-grid.")
    one_hot = np.stack([truth == k for k in range(len(classes))]).astype(np.float32)
    label = resized(one_hot, protocol.size).argmax(axis=0)
    scores = case_scores(prediction.mask_at(protocol.size), label, classes, (1.0, 1.0))
    # A stretched grid has no unit that distances could be told in.
    return {name: {**values, **dict.fromkeys(DISTANCES, math.nan)} for name, values in scores.items()}


def find_protocol(name: str) -> Protocol:
    """The scoring protocol of a name.

    Raises:
        UserError: there is none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no scoring protocol {name!r}. There are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def _cases(folder: DataFolder, predictor: Predictor, fold: int, split: Part) -> Sequence[CaseFiles]:
    """The cases to score; none that the model saw in training, unless these are asked for."""
    data, parts = predictor.header.recipe.data, predictor.header.data
    if split == "all":
        cases: Sequence[CaseFiles] = folder.cases
    elif split == "validation" and not data.validation:
        raise UserError("the model was trained on its validation cases too (data.validation is false). Take --split test.")
    elif fold == data.fold and split in parts:  # the model knows which cases its own parts are
        cases = [case for case in folder.cases if case.name in set(parts[split])]
        if len(cases) < len(parts[split]) or any(_is_another(case, parts) for case in cases):
            raise UserError(
                f"{folder.root}: expected the {len(parts[split])} {split} cases of the model; some are not there, or are other "
                "images. Give the data folder it was trained with, or --split all for other data."
            )
        return cases
    else:
        cases = getattr(split_cases(check_folder(folder.root).folder, replace(data, fold=fold)), split)
    seen = set(parts.get("train", ())) | set(parts.get("validation", ()))
    known = [case.name for case in cases if case.name in seen and not _is_another(case, parts)]
    if known and split in ("test", "all"):
        raise UserError(
            f"{len(known)} of the {len(cases)} cases were seen in training ({', '.join(known[:3])}, ...), so their scores would "
            f"say nothing. The model was trained on fold {data.fold}: leave --fold away; or ask for --split train."
        )
    return cases


def _is_another(case: CaseFiles, parts: Mapping[str, Any]) -> bool:
    """Whether a case is another image than that of the same name which the model knows; never for models that kept no checksums."""
    known = parts.get("images", {}).get(case.name)
    try:
        return known is not None and image_digest(read_channels(case)) != known
    except UserError:
        return False  # it cannot be read, which is told when it is scored


def _twin(predictor: Predictor, model: Path | str | Predictor, device: str) -> Predictor | None:
    """The same weights without diffusion, where there is any to leave out."""
    settings = predictor.recipe.segmenter
    if isinstance(model, Predictor) or not isinstance(settings, CDALSettings):
        return None
    if settings.generator != "fast" or not settings.stochastic:
        return None
    if not isinstance(predictor.engine, TorchEngine):  # a graph's steps are fixed
        return None
    return load(model, 0, device, predictor.recipe.data.mirror_votes, predictor.recipe.data.components)


def _agreement(
    prediction: Prediction, twin: Predictor | None, image: Image, raters: np.ndarray, case: str, seed: int
) -> dict[str, float]:
    classes = len(prediction.probability)
    assert prediction.votes is not None  # asked for
    agreed = {
        **agreement(prediction.votes.argmax(axis=1), raters, classes),
        "rank_correlation": disagreement_correlation(prediction.uncertainty, raters, classes),
    }
    if twin is not None:
        alone = twin.predict(image, 1, seed, case).mask[None]
        agreed["ged_deterministic"] = generalised_energy_distance(alone, raters, classes)
    return agreed


def _protocol(predictor: Predictor, folder: DataFolder, fold: int, split: Part) -> dict[str, Any]:
    recipe = predictor.recipe
    return {
        **predictor.about(),
        "training_seed": recipe.training.seed,
        "data": folder.root.resolve().name,
        "partition": recipe.data.partition,
        "folds": fold_count(folder, recipe.data),
        "fold": None if split == "all" else fold,
        "split": split,
        "network_grid": list(recipe.data.resize or recipe.data.spacing or ()) or "own",
        "window": list(recipe.data.size),
        "overlap": recipe.data.overlap,
        "intervals": "95 %, bootstrap over cases, which are taken as independent",
        "empty_masks": "both empty: 1; one empty: 0; distances left out",
        **predictor.engine.about(),
        "processor": platform.machine(),
        "version": __version__,
    }


def _write(evaluation: Evaluation, out: Path) -> None:
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
