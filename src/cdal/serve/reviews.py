"""Verdicts on cases and corrected masks, written into the folder of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from cdal.datasets.reviews import (
    REVIEWED,
    REVIEWS,
    Review,
    Reviews,
    Verdict,
    keep_review,
    name_of_case,
    read_reviews,
)
from cdal.evaluation.metrics import dice_by_class
from cdal.evaluation.review.opening import read_mask
from cdal.imaging.annotations import Segment, annotation_format, draw
from cdal.imaging.formats import read_label, write_label
from cdal.imaging.grid import off_grid
from cdal.imaging.image import Image
from cdal.inference.inputs import Input
from cdal.inference.patients import find_patients
from cdal.inference.selection import select
from cdal.runtime.errors import UserError
from cdal.serve.answers import Answer
from cdal.serve.cases import Entry
from cdal.serve.opened import Opener, files_of_entry
from cdal.serve.refusals import unusable

_ALGORITHM = "correction"
"""Name of the algorithm in a corrected DICOM segmentation."""


def case_name(entry: Entry) -> str:
    """Name of a case among the reviews, and of its corrected mask."""
    mask = None if entry.found is None else entry.found.files.get("mask")
    source = _source(entry)
    return name_of_case(source, mask) if mask else entry.result_name


def _source(entry: Entry) -> str:
    """Path of the image, as it is or would be in `predictions.json`."""
    return str(entry.inputs[0]) if entry.found is None else entry.found.source


def review_of(entry: Entry) -> Review | None:
    """What was said of a case; `None` if nothing was, or not of its image as it was segmented."""
    known = _reviews_of(entry)
    review = None if isinstance(known, str) else known.cases.get(case_name(entry))
    digest = "" if entry.found is None else entry.found.digest
    if review is not None and review.image and digest and review.image != digest:
        return None
    return review


def fault_of_review(entry: Entry) -> str:
    """Why what was said of a case cannot be read; empty if it can, or nothing was."""
    known = _reviews_of(entry)
    return known if isinstance(known, str) else known.broken.get(case_name(entry), "")


def _reviews_of(entry: Entry) -> Reviews | str:
    """The reviews of the folder of a case, or why none of them can be read."""
    if entry.folder is None:
        return Reviews()
    try:
        about = (entry.folder / REVIEWS).stat()
    except OSError:
        return Reviews()
    return _read(entry.folder, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _read(folder: Path, modified: int, size: int) -> Reviews | str:
    """The reviews of a folder, read again when their file changes."""
    try:
        return read_reviews(folder)
    except UserError as error:
        return str(error)


def reviewed_of(entry: Entry, review: Review | None) -> Path | None:
    """The corrected mask of a case; `None` if there is none."""
    if review is None or review.mask is None or entry.folder is None:
        return None
    path = entry.folder / REVIEWED / review.mask
    return path if path.is_file() else None


def review_answer(review: Review) -> Answer:
    """A review as JSON."""
    values = asdict(review)
    return {name: values[name] for name in ("verdict", "when", "mask", "dice")}


def keep_verdict(entry: Entry, verdict: Verdict) -> Review:
    """Write a verdict; a corrected mask that was saved before stays.

    Raises:
        HTTPException: 422, the server has no folder for it.
        UserError: the mask that it is about is missing, or it cannot be written.
    """
    folder = _folder(entry)
    found = entry.found
    mask = None if found is None else found.files.get("mask")
    before = review_of(entry)
    dice = before.dice if before is not None and verdict == "fix" else {}
    image = "" if found is None else found.digest
    return keep_review(folder, case_name(entry), _source(entry), verdict, mask, dice, image)


def keep_correction(entry: Entry, image: Image, label: np.ndarray, opener: Opener) -> Review:
    """Write a corrected mask in the format and on the grid of its image, and its review.

    Args:
        entry: the case.
        image: its image.
        label: classes `[*S]`.
        opener: opens images, for the number of channels.

    Raises:
        HTTPException: 422, the server has no folder for it.
        UserError: it cannot be written.
    """
    folder, name = _folder(entry), case_name(entry)
    place = folder / REVIEWED / name
    names = ("background", *(found.name for found in entry.found.classes)) if entry.found else ()
    if image.suffix == ".dcm":
        from cdal.imaging.annotations.dicom_seg import write_segmentation

        numbers = range(1, 1 + int(label.max(initial=0)))
        classes = names or ("background", *map(str, numbers))
        place.parent.mkdir(parents=True, exist_ok=True)
        write_segmentation(place, label, image, classes, _ALGORITHM)
    else:
        stem = place.with_name(name.removesuffix(image.suffix))
        if write_label(stem, label, image) != place:
            raise UserError(f"{name}: expected a mask that ends in {image.suffix}.")
    dice: dict[str, float] = {}
    if entry.found is not None and entry.file("mask"):
        predicted = read_mask(files_of_entry(entry, opener.channels), image)
        dice = dice_by_class(label, predicted, names)
    mask = None if entry.found is None else entry.found.files.get("mask")
    digest = "" if entry.found is None else entry.found.digest
    return keep_review(folder, name, _source(entry), "fix", mask, dice, digest)


def read_correction(
    path: Path, image: Image, classes: Sequence[str], numbers: Mapping[int, str] | None = None
) -> np.ndarray:
    """Read a corrected mask: a label image, or an annotation with the names of classes.

    Args:
        path: the file.
        image: image that it belongs to.
        classes: names of the classes, the background first; empty if they are not known.
        numbers: name of each number of a label image, if they are not the model's own.

    Returns:
        Classes `[*S]` uint8.

    Raises:
        UserError: it is damaged, lies on another grid than the image, or has other classes.
    """
    if found := annotation_format(path):
        known = list(classes)
        segments = [
            Segment(_named(segment.name, known), segment.box, segment.inside)
            for segment in found.read(path, image, path.name)
        ]
        return draw(segments, image.shape, known)[0]
    label = read_label(path)
    if label.shape != image.shape:
        raise UserError(
            f"the mask: expected the shape of the image, {image.shape}; it has {label.shape}."
        )
    like = image if image.affine is not None else Image(image.array, np.eye(4))
    if len(image.shape) == 3 and (fault := off_grid(label, like)):
        raise UserError(f"the mask: expected the place in space of the image; the {fault}")
    values = label.array[0]
    if numbers is not None:
        lookup = {n: classes.index(_named(name, classes)) for n, name in numbers.items()}
        translated = np.zeros_like(values)
        for number, own in lookup.items():
            translated[values == number] = own
        if (values[translated == 0] > 0).any():
            raise UserError("the mask: it has numbers for which no class is named.")
        values = translated
    most = len(classes) - 1 if classes else 255
    if int(values.max(initial=0)) > most:
        raise UserError(
            f"the mask: expected classes from 0 to {most}; its highest number is {values.max()}."
        )
    return values.astype(np.uint8)


def _named(name: str, classes: Sequence[str]) -> str:
    """The class of this name, whatever its case is."""
    for known in classes[1:]:
        if known == name or known.casefold() == name.strip().casefold():
            return known
    raise UserError(
        f"the mask: expected segments of the classes {', '.join(classes[1:])}; one is called "
        f"{name!r:.60}."
    )


def next_case(entries: Sequence[Entry]) -> Entry | None:
    """The case to review next; `None` if all are reviewed. Those that have failed are left out.

    Segmented cases come first, ordered as `cdal rank --method dice` orders images: the one with the
    lowest expected Dice first, and no patient a second time before each has had a turn.
    """
    open_ = [entry for entry in entries if entry.inputs[0].exists() and not entry.failed]
    judged = [entry for entry in open_ if entry.found is not None and entry.found.dice is not None]
    inputs = [Input(entry.inputs[0], entry.stem, "") for entry in judged]
    try:
        patients, _ = find_patients(inputs, None)
    except UserError:  # a table beside the images is damaged; the order does without it
        patients = [entry.id for entry in judged]
    losses = [1 - (entry.found.dice or 0.0) for entry in judged if entry.found is not None]
    picks = select(np.array(losses), patients, len(judged)) if judged else []
    ordered = [judged[pick.index] for pick in picks]
    rest = [entry for entry in open_ if entry not in judged]
    return next((entry for entry in (*ordered, *rest) if review_of(entry) is None), None)


def _folder(entry: Entry) -> Path:
    if entry.folder is None:
        raise unusable("This server has no folder for results: start it with --out.")
    return entry.folder
