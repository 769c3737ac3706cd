"""Calibrating a trained model: its temperature, the quality of its cases, its training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from safetensors import safe_open

from cdal.datasets.cases import load_case
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case, read_image_of
from cdal.evaluation.agreement import majority
from cdal.evaluation.calibration import fit_temperature
from cdal.evaluation.evaluate import cases_of, opened
from cdal.evaluation.fit_likeness import Described, fit_likeness, widened
from cdal.evaluation.fit_quality import Known, fit_quality
from cdal.evaluation.metrics import count, surface_distances
from cdal.imaging.image import Image, image_digest
from cdal.inference.conformal import fewest
from cdal.inference.likeness import TrainingImages, changes, features, sizes
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.inference.quality import LEVEL, Quality, sampled
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.segmenters.model_file import save_tensors
from cdal.segmenters.model_header import SUFFIX, ModelHeader, read_header

MOST_CASES = 64
"""Most cases, evenly spaced, that the quality is fitted to. Each is segmented with all votes."""

_MOST_IMAGES = 256
"""Most training images, evenly spaced, that are described."""

_TEMPERATURE_CASES = 32
"""Most cases, evenly spaced, that a temperature is fitted to. One number does not need more."""

_Item = TypeVar("_Item")


def calibrate(
    model: Path,
    out: Path,
    folder: DataFolder,
    cases: Sequence[CaseFiles],
    trained_on: Sequence[CaseFiles] = (),
    sampling: Sampling | None = None,
    device: str = "auto",
    report: Report = silent,
) -> None:
    """Fit what a model file knows of its own quality, and write the model with it.

    Args:
        model: path of the model file.
        out: path of the file to write; may be that of the model.
        folder: data folder of the cases.
        cases: cases with truth that the model was not trained on.
        trained_on: cases that describe the training images. If there are none, what the model file
            says of its training images is kept, and widened to `cases`.
        sampling: how the model will be sampled; as its recipe says if `None`. A temperature in it
            is taken, otherwise one is fitted.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, in cases.

    Raises:
        UserError: the model or a case cannot be used, or there are no cases.
    """
    if not cases:
        raise UserError(
            f"{folder.root}: expected cases with truth to calibrate with; none are left."
        )
    sampling = sampling or Sampling()
    uncalibrated = load(model, replace(sampling, temperature=1.0, strict=False), device)
    temperature = sampling.temperature
    if temperature is None:
        temperature = _temperature(uncalibrated, folder, some_of(cases, _TEMPERATURE_CASES), report)
    predictor = load(model, replace(sampling, temperature=temperature, strict=False), device)
    known, digests = [], {}
    chosen = some_of(cases, MOST_CASES)
    report(Event("calibrating", message=f"calibrating on {len(chosen)} cases"))
    for number, case in enumerate(chosen, start=1):
        image, labels = read_case(case, folder)
        known.append(_known(predictor, image, labels, case.name))
        digests[case.name] = image_digest(image)
        report(Event("calibrating", case.name, number, len(chosen)))
    quality = fit_quality(
        known, predictor.header.classes[1:], sampled(predictor.about(), predictor.votes)
    )
    data = predictor.recipe.data
    seen = predictor.judge.seen
    if trained_on:
        seen = fit_likeness(_described(folder, some_of(trained_on, _MOST_IMAGES), data))
    elif seen is not None:
        seen = widened(seen, _described(folder, chosen, data))
    _write(model, out, temperature, quality.to_dict(), seen, digests)


def recalibrate(
    model: Path | str,
    data: Path | str,
    out: Path,
    sampling: Sampling | None = None,
    split: Literal["validation", "all"] = "validation",
    device: str = "auto",
    report: Report = silent,
) -> list[str]:
    """Calibrate a trained model on annotated cases, see `calibrate`.

    Args:
        model: name or path of a model, see `cdal.load`.
        data: path of the data folder.
        out: path of the model file to write.
        sampling: see `calibrate`.
        split: the model's own validation cases, or all cases of a folder that it never saw.
        device: see `calibrate`.
        report: see `calibrate`.

    Returns:
        Lines that say what was fitted.

    Raises:
        UserError: the model or the data cannot be used, or the model was trained on the cases.
    """
    if out.suffix != SUFFIX:
        raise UserError(f"{out}: expected a path that ends in {SUFFIX}, for the model file.")
    predictor = load(model, sampling, device)
    path = predictor.path
    if path is None or path.suffix != SUFFIX:
        raise UserError(
            f"{model}: expected a {SUFFIX} file. Calibrate that one, and export it again."
        )
    header = predictor.header
    folder = opened(Path(data), header.classes, report)
    fold = header.recipe.data.fold
    cases = cases_of(folder, predictor, fold, split)
    _need_no_loss(header, len(cases), path)
    trained_on: Sequence[CaseFiles] = ()
    if split == "validation":
        trained_on = [*cases_of(folder, predictor, fold, "train"), *cases]
    calibrate(path, out, folder, cases, trained_on, sampling, device, report)
    return _told(read_header(out), out)


def _need_no_loss(header: ModelHeader, cases: int, path: Path) -> None:
    """Refuse to replace a fit that gives intervals by one that gives none."""
    if not header.quality or cases >= fewest(LEVEL):
        return
    fitted = Quality.of(header.quality)
    if any(of_class.dice.margin() is not None for of_class in fitted.classes.values()):
        raise UserError(
            f"{path} was calibrated on {fitted.cases} cases, which give intervals. {cases} "
            f"{'case gives' if cases == 1 else 'cases give'} none: give {fewest(LEVEL)} or more."
        )


def _told(header: ModelHeader, out: Path) -> list[str]:
    quality = Quality.of(header.quality)
    lines = [f"{out}: temperature {header.temperature}, fitted on {quality.cases} cases"]
    for name, fitted in quality.classes.items():
        margin = fitted.dice.margin()
        if margin is None:
            lines.append(f"{name}: no interval; that needs {fewest(LEVEL)} cases or more")
            continue
        width = min(1.0, 2 * margin)
        lines.append(
            f"{name}: expected Dice {fitted.dice.intercept:+.3f} {fitted.dice.slope:+.3f} e, 90 % "
            f"interval {width:.3f} wide (the same for every case: {fitted.constant:.3f})"
        )
    return lines


def _temperature(
    predictor: Predictor, folder: DataFolder, cases: Sequence[CaseFiles], report: Report
) -> float:
    """The temperature, to thousandths, fitted on the images' own grids."""
    pairs = []
    for number, case in enumerate(cases, start=1):
        image, labels = read_case(case, folder)
        raters = np.stack([label.array[0] for label in labels])
        pairs.append((predictor.predict(image, case.name).probability, raters))
        report(Event("calibrating", case.name, number, len(cases)))
    return round(fit_temperature(pairs), 3)


def _known(
    predictor: Predictor, image: Image, labels: Sequence[Image], case: str
) -> Mapping[str, Known]:
    """What is known of one case after it was segmented."""
    classes, prediction = predictor.header.classes, predictor.predict(image, case)
    truth = majority(np.stack([label.array[0] for label in labels]), len(classes))
    return {
        name: known_of(prediction.mask == k, truth == k, prediction.signs.expected_dice(k), image)
        for k, name in enumerate(classes)
        if k > 0
    }


def known_of(mask: np.ndarray, truth: np.ndarray, expected: float, image: Image) -> Known:
    """The numbers of one class of one case."""
    hd95, _ = surface_distances(mask, truth, image.spacing)
    return Known(expected, count(mask, truth).dice, hd95, float(mask.sum()), float(truth.sum()))


def _described(
    folder: DataFolder, cases: Sequence[CaseFiles], data: DataSettings
) -> list[Described]:
    found = []
    for case in cases:
        image = read_image_of(case)
        on_grid = load_case(case, folder, data).image.numpy()
        described = features(on_grid, data)
        lengths, spacing = sizes(image.shape, image.affine)
        found.append(Described(described, lengths, spacing, changes(described)))
    return found


def _write(
    model: Path,
    out: Path,
    temperature: float,
    quality: dict[str, Any],
    seen: TrainingImages | None,
    digests: dict[str, str],
) -> None:
    """Write the weights of a model file, as they are, with another header."""
    header = read_header(model)
    with safe_open(model, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = replace(
        header,
        data={**header.data, "calibration": digests},
        temperature=temperature,
        quality=quality,
        training_images={} if seen is None else seen.to_dict(),
    )
    save_tensors(out, weights, changed)


def some_of(items: Sequence[_Item], most: int | None) -> Sequence[_Item]:
    """Select `most` of the items, evenly spaced; all if there are no more, or if it is `None`."""
    if most is None or most >= len(items):
        return items
    return [items[i * len(items) // most] for i in range(most)]
