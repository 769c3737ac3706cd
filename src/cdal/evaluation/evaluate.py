"""Evaluation of one model on the cases of a data folder."""

from __future__ import annotations

import hashlib
import math
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from cdal.datasets.check import check_folder
from cdal.datasets.folder import named_as, open_folder
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.partition import fold_count, split_cases
from cdal.datasets.reading import read_case, read_image_of
from cdal.evaluation.agreement import (
    agreement,
    disagreement_correlation,
    generalised_energy_distance,
    majority,
)
from cdal.evaluation.calibration import certainty
from cdal.evaluation.judged import judged_rows
from cdal.evaluation.metrics import DISTANCES, case_scores
from cdal.evaluation.result import Evaluation
from cdal.imaging.grid import resized
from cdal.imaging.image import Image, image_digest
from cdal.inference.case import explained
from cdal.inference.decision import classes_of_votes
from cdal.inference.engine import Engine
from cdal.inference.ensemble_engine import EnsembleEngine
from cdal.inference.load import load
from cdal.inference.predict import predictor_of
from cdal.inference.predictor import Prediction, Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.recipes.protocols import Protocol, find_protocol
from cdal.runtime.cost import joined_cost, kept_cost, peak_memory
from cdal.runtime.errors import UserError, listed
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.version import __version__
from cdal.segmenters.model_header import ModelHeader, Seen

Part = Literal["train", "validation", "test", "all"]


def evaluate(
    model: Path | str | Sequence[Path | str] | Predictor,
    data: Path | str,
    sampling: Sampling | None = None,
    split: Part = "test",
    fold: int | None = None,
    scorings: Sequence[str] | None = None,
    report: Report = silent,
) -> Evaluation:
    """Segment the cases of one part of a data folder and score them against their labels.

    With several annotators, the truth is the class that most of them chose. In addition, the votes
    are compared with all annotators.

    Args:
        model: name or path of a model or of several, or a predictor, see `cdal.load`.
        data: path of the data folder.
        sampling: how to sample the model; `None` to follow its recipe. It cannot be given together
            with a predictor, which has its own.
        split: part of the fold to score; `all` for a data set that the model has not seen.
        fold: number of the fold; `None` for the model's own.
        scorings: names of scoring protocols (`cdal.recipes.protocols`); `None` for the recipe's.
        report: receives the progress, in cases.

    Returns:
        The scores. `cdal.evaluation.result.write_result` writes them into a folder.

    Raises:
        UserError: the model or the data cannot be used, or cases to test were seen in training.
    """
    predictor = predictor_of(model, sampling)
    folder = opened(Path(data), predictor.header.classes, report)
    protocols = [
        find_protocol(name) for name in dict.fromkeys(scorings or predictor.recipe.data.protocols)
    ]
    fold = predictor.header.recipe.data.fold if fold is None else fold
    cases = cases_of(folder, predictor, fold, split)
    twin = _twin(predictor) if any(len(case.labels) > 1 for case in cases) else None
    evaluation = Evaluation(
        [], [], [], {}, folder.classes[1:], _protocol(predictor, folder, fold, split), {}, {}
    )
    truths = hashlib.sha256()
    for number, case in enumerate(cases, start=1):
        try:
            image, labels = read_case(case, folder)
            began = time.perf_counter()
            with nullcontext() if evaluation.rows else FlopCounterMode(display=False) as operations:
                prediction = predictor.predict(image, case.name, keep_votes=len(labels) > 1)
            seconds = time.perf_counter() - began
            # Only PyTorch counts operations.
            if operations is not None and all(
                isinstance(engine, TorchEngine) for engine in _engines(predictor)
            ):
                evaluation.cost["gigaflops"] = operations.get_total_flops() / 1e9
        except Exception as error:  # no case may stop the others
            evaluation.failed[case.name] = explained(case.name, error)
        else:
            raters = np.stack([label.array[0] for label in labels])
            truths.update(repr((case.name, raters.shape)).encode() + raters.tobytes())
            _add(evaluation, prediction, raters, protocols, image, case.name, seconds)
            evaluation.judged.extend(_judged(predictor, prediction, raters, image, case.name))
            if len(labels) > 1:
                evaluation.annotators.append(
                    {"case": case.name, **_agreement(prediction, twin, image, raters, case.name)}
                )
        report(Event("scoring", case.name, number, len(cases)))
    if not evaluation.rows:
        raise UserError(
            "no case could be scored. The first says: " + next(iter(evaluation.failed.values()))
        )
    evaluation.protocol["truth"] = truths.hexdigest()[:16]
    evaluation.cost.update(
        parameters=predictor.engine.parameters,
        peak_memory=peak_memory(),
        training=joined_cost([kept_cost(file.parent) for file in predictor.files]),
    )
    return evaluation


def opened(data: Path, classes: tuple[str, ...], report: Report) -> DataFolder:
    """Open a data folder of the model's classes; if it names none, it gets the model's names.

    Raises:
        UserError: the folder declares other classes.
    """
    folder, note = named_as(open_folder(data), classes)
    if note:
        report(Event("scoring", message=note))
    if folder.classes != classes:
        raise UserError(
            f"{folder.root}: expected the classes {', '.join(classes)}, as in training; it "
            f"declares {', '.join(folder.classes)}."
        )
    return folder


def _judged(
    predictor: Predictor, prediction: Prediction, raters: np.ndarray, image: Image, case: str
) -> list[dict[str, Any]]:
    """What was estimated of a case, and what is true; nothing of cases of the calibration."""
    calibration = predictor.header.data.get("calibration")
    if isinstance(calibration, dict) and image_digest(image) in calibration.values():
        return []
    truth = majority(raters, len(prediction.probability))
    return judged_rows(prediction, truth, float(np.prod(image.spacing)), case)


def _add(
    evaluation: Evaluation,
    prediction: Prediction,
    raters: np.ndarray,
    protocols: Sequence[Protocol],
    image: Image,
    case: str,
    seconds: float,
) -> None:
    """Add the scores of one case, and how certain the model was of it."""
    classes = ("background", *evaluation.classes)
    evaluation.rows.extend(_rows(prediction, raters, protocols, classes, image, case, seconds))
    uncertainty = prediction.uncertainty if prediction.count > 1 else None
    truth = majority(raters, len(classes))
    evaluation.certainties[case] = certainty(prediction.probability, uncertainty, truth)
    unit = "pixels" if image.affine is None else "mm"
    evaluation.protocol.update(votes=prediction.count, unit=unit)


def _rows(
    prediction: Prediction,
    raters: np.ndarray,
    protocols: Sequence[Protocol],
    classes: tuple[str, ...],
    image: Image,
    case: str,
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """One row for each scoring protocol and class, scored against the annotators' majority."""
    truth = majority(raters, len(classes))
    for protocol in protocols:
        scores = _scores(prediction, truth, protocol, classes, image)
        yield from (
            {"scoring": protocol.name, "case": case, "class": name, **values, "seconds": seconds}
            for name, values in scores.items()
        )


def _scores(
    prediction: Prediction,
    truth: np.ndarray,
    protocol: Protocol,
    classes: tuple[str, ...],
    image: Image,
) -> dict[str, dict[str, float]]:
    if protocol.size is None:
        return case_scores(prediction.mask, truth, classes, image.spacing)
    if truth.ndim != 2:
        raise UserError(
            f"the scoring protocol {protocol.name} is for pictures; this is a volume. Use own-grid."
        )
    one_hot = np.stack([truth == k for k in range(len(classes))]).astype(np.float32)
    label = resized(one_hot, protocol.size).argmax(axis=0)
    scores = case_scores(prediction.mask_at(protocol.size), label, classes, (1.0, 1.0))
    # Distances on a stretched grid have no unit.
    return {
        name: {**values, **dict.fromkeys(DISTANCES, math.nan)} for name, values in scores.items()
    }


def cases_of(
    folder: DataFolder, predictor: Predictor, fold: int, split: Part
) -> Sequence[CaseFiles]:
    """The cases of a part of a data folder. An ensemble saw what any of its members saw.

    Raises:
        UserError: cases are missing; or, for the parts `test` and `all`, the model saw some of them
            in training or validation.
    """
    data, models = predictor.header.recipe.data, predictor.header.models
    seen = [model.seen for model in models]
    remedy = _remedy(len(models), split, None if fold == data.fold else data.fold)
    if split == "all":
        cases: Sequence[CaseFiles] = folder.cases
    elif split == "validation" and not all(model.recipe.data.validation for model in models):
        raise UserError(
            "the model was trained on its validation cases too (data.validation is false). Take "
            "--split test."
        )
    elif fold == data.fold and all(split in model.data for model in models):
        cases, seen = _listed(folder, models, split), [model.seen_before for model in models]
        remedy = (
            "The model started from another, which has seen them: give other data, --split all."
        )
    else:
        cases = getattr(
            split_cases(check_folder(folder.root).folder, replace(data, fold=fold)), split
        )
    known = _seen(cases, seen) if split in ("test", "all") else []
    if known:
        raise UserError(
            f"{len(known)} of the {len(cases)} cases were seen in training, so their scores would "
            f"be meaningless. {remedy} Seen:{listed(known)}"
        )
    return cases


def _remedy(models: int, split: Part, own_fold: int | None) -> str:
    """What to do about cases that were seen in training, in the words that were given.

    Args:
        models: number of models.
        split: part that was asked for.
        own_fold: the model's own fold if another was asked for.
    """
    if split == "all":
        return "Remove these cases from the folder, or give other data."
    if models > 1:
        return "Give cases that no model of the ensemble has seen."
    if own_fold is None:
        return "Give other data, with --split all."
    return f"The model was trained on fold {own_fold}: omit --fold, or use --split train."


def _listed(folder: DataFolder, models: Sequence[ModelHeader], split: Part) -> Sequence[CaseFiles]:
    """The cases of a part of the model's own fold, which the model file lists.

    Raises:
        UserError: the members of an ensemble list others, or the data folder lacks some.
    """
    names = set(models[0].data[split])
    if any(set(model.data[split]) != names for model in models):
        seen = "" if split != "test" else ", so that some have seen the test cases of others"
        raise UserError(
            f"the models of the ensemble have different {split} cases{seen}. cdal crossval scores "
            "each on its own test cases; score the ensemble on other data, with --split all."
        )
    cases = [case for case in folder.cases if case.name in names]
    if len(cases) < len(names) or any(any(_is_another(case, models)) for case in cases):
        raise UserError(
            f"{folder.root}: expected the {len(names)} {split} cases of the model; some are "
            "missing or are different images. Give the data folder it was trained with, or "
            "--split all for other data."
        )
    return cases


def _seen(cases: Sequence[CaseFiles], seen: Sequence[Seen]) -> list[str]:
    """Names of the cases that a model saw in training, or chose its weights on.

    Args:
        cases: the cases.
        seen: what each model saw.
    """
    known = []
    for case in cases:
        own = _digest(case) if any(model.images for model in seen) else None
        if any(model.holds(case.name, own) for model in seen):
            known.append(case.name)
    return known


def _digest(case: CaseFiles) -> str | None:
    """Checksum of the image of a case; `None` if it cannot be read, which the scoring reports."""
    try:
        return image_digest(read_image_of(case))
    except UserError:
        return None


def _is_another(case: CaseFiles, models: Sequence[ModelHeader]) -> list[bool]:
    """Whether a case differs from the image of the same name that a model file records.

    False for a model file without checksums.
    """
    known = [model.data.get("images", {}).get(case.name) for model in models]
    if all(digest is None for digest in known):
        return [False] * len(models)
    own = _digest(case)
    if own is None:
        return [False] * len(models)
    return [digest not in (None, own) for digest in known]


def _engines(predictor: Predictor) -> Sequence[Engine]:
    """The engine of each model that predicts."""
    engine = predictor.engine
    return engine.members if isinstance(engine, EnsembleEngine) else (engine,)


def _twin(predictor: Predictor) -> Predictor | None:
    """The same weights without diffusion; `None` if the model has none or cannot leave it out.

    An ensemble has no twin.
    """
    if predictor.path is None or predictor.recipe.segmenter.without_diffusion() is None:
        return None
    if not isinstance(predictor.engine, TorchEngine):  # the steps of an exported graph are fixed
        return None
    return load(
        predictor.path,
        replace(predictor.sampling, timesteps=0, votes=1),
        predictor.engine.device.type,
    )


def _agreement(
    prediction: Prediction, twin: Predictor | None, image: Image, raters: np.ndarray, case: str
) -> dict[str, float]:
    classes = len(prediction.probability)
    assert prediction.votes is not None  # kept, because the case has several annotators
    measures = {
        **agreement(classes_of_votes(prediction.votes), raters, classes),
        "rank_correlation": disagreement_correlation(prediction.uncertainty, raters, classes),
    }
    if twin is not None:
        mask = twin.predict(image, case).mask
        measures["ged_deterministic"] = generalised_energy_distance(mask[None], raters, classes)
    return measures


def _protocol(predictor: Predictor, folder: DataFolder, fold: int, split: Part) -> dict[str, Any]:
    recipe = predictor.recipe
    seeds = {model.recipe.training.seed for model in predictor.header.models}
    return {
        **predictor.about(),
        "seed": predictor.sampling.seed,
        "training_seed": seeds.pop() if len(seeds) == 1 else None,
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
