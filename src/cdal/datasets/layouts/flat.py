"""A folder with images and masks side by side.

    NAME.ext                  an image
    NAME_mask.ext             its mask; also NAME_seg, NAME_label, NAME-mask, ...
    NAME_rater0.ext           ... or one mask per annotator
    NAME.json                 ... or an annotation, see `cdal.imaging.annotations`
    annotations.json          ... or one file for all images (COCO, CVAT)

Folders inside are not searched, except for DICOM series.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cdal.datasets.layout import Listing
from cdal.datasets.layouts.files import (
    MASK_WORDS,
    RATER,
    annotation_stem,
    by_stem,
    entries,
    image_stem,
    owner,
    readable_files,
)
from cdal.datasets.layouts.pairs import annotations_of, joined, paired, shared_and_own
from cdal.datasets.shared import add_shared, is_shared
from cdal.imaging.annotations import annotation_format
from cdal.runtime.text import composed


def readings(root: Path) -> list[str]:
    """Return the reading as images beside masks, in words, if some files are masks."""
    stems = {composed(stem) for path in readable_files(root) if (stem := _image_stem(path))}
    masks = [stem for stem in stems if _is_mask(stem, stems)]
    drawings = [
        path.name for path in entries(root) if path.is_file() and _is_drawing(path, stems) and stems
    ]
    if masks:
        return [f"masks such as {min(masks)} beside their images"]
    return [f"annotations such as {min(drawings)} beside their images"] if drawings else []


def list_cases(root: Path) -> Listing:
    """List the images and masks of a folder."""
    problems: list[str] = []
    files = by_stem(root, problems, _image_stem, series=True)
    masks = {stem: path for stem, path in files.items() if _is_mask(stem, files)}
    images = {stem: (path,) for stem, path in files.items() if stem not in masks}
    shared, own = shared_and_own(by_stem(root, problems, annotation_stem), images)
    labels, unmatched = annotations_of(masks, set(images), problems)
    drawn, without_image = annotations_of(own, set(images), problems)
    for name, found in drawn.items():
        labels.setdefault(name, []).extend(found)
    annotations = joined(labels, problems)
    add_shared(annotations, shared, images, problems)
    return paired(images, annotations, [*unmatched, *without_image], root, root, problems)


def _image_stem(path: Path) -> str | None:
    """Return the name of an image or mask; DICOM annotations are neither, also with a suffix."""
    known = annotation_format(path)
    return None if known is not None and known.bare else image_stem(path)


def _is_drawing(path: Path, stems: Collection[str]) -> bool:
    """Whether a file is the annotation of an image, or of several."""
    stem = annotation_stem(path)
    if stem is None:
        return False
    return owner(composed(stem), stems)[0] is not None or is_shared(path)


def _is_mask(stem: str, stems: Collection[str]) -> bool:
    cuts = {name for i, c in enumerate(stem) if c in "_-." and (name := stem[:i]) in stems}
    image, rest = owner(stem, cuts)
    return bool(image) and (rest.lower() in MASK_WORDS or bool(RATER.match(rest)))
