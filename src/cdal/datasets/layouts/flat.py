"""A folder with images and masks side by side.

    NAME.ext                  an image
    NAME_mask.ext             its mask; also NAME_seg, NAME_label, NAME-mask, ...
    NAME_rater0.ext           ... or one mask per annotator

Folders inside are not searched, except for DICOM series.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cdal.datasets.layout import Listing
from cdal.datasets.layouts.files import (
    MASK_WORDS,
    RATER,
    by_stem,
    label_stem,
    owner,
    readable_files,
)
from cdal.datasets.layouts.pairs import annotations_of, joined, paired
from cdal.runtime.text import composed


def readings(root: Path) -> list[str]:
    """Return the reading as images beside masks, in words, if some files are masks."""
    stems = {composed(label_stem(path) or "") for path in readable_files(root)}
    masks = [stem for stem in stems if _is_mask(stem, stems)]
    return [f"masks such as {min(masks)} beside their images"] if masks else []


def list_cases(root: Path) -> Listing:
    """List the images and masks of a folder."""
    problems: list[str] = []
    files = by_stem(root, problems, label_stem, series=True)
    masks = {stem: path for stem, path in files.items() if _is_mask(stem, files)}
    images = {stem: (path,) for stem, path in files.items() if stem not in masks}
    labels, unmatched = annotations_of(masks, set(images), problems)
    return paired(images, joined(labels, problems), unmatched, root, root, problems)


def _is_mask(stem: str, stems: Collection[str]) -> bool:
    cuts = {name for i, c in enumerate(stem) if c in "_-." and (name := stem[:i]) in stems}
    name, rest = owner(stem, cuts)
    return bool(name) and (rest.lower() in MASK_WORDS or bool(RATER.match(rest)))
