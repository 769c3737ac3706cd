"""Checking a single case: its problems, and facts about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import nibabel as nib
import numpy as np
from scipy import ndimage

from cdal.datasets.check_values import constant_findings, looks_numbered, shade_fault
from cdal.datasets.drawing import Drawing, read_drawing
from cdal.datasets.findings import CaseFacts, Finding, Level
from cdal.datasets.labels import MOST_CLASSES, grid_fault, too_many
from cdal.datasets.layout import Annotation, CaseFiles, DataFolder
from cdal.datasets.reading import read_image_of
from cdal.datasets.values import coded
from cdal.imaging.formats import read_any
from cdal.imaging.image import Image, image_digest
from cdal.imaging.intensities import is_gray
from cdal.runtime.errors import UserError, first_few

_NEARLY_ALL = 0.95
"""A mask that covers a larger share of the image than this may be inverted."""


def look_at_case(case: CaseFiles, folder: DataFolder) -> tuple[CaseFacts | None, list[Finding]]:
    """Return the facts of a case (`None` if it cannot be used) and its findings."""
    try:
        image = read_image_of(case, read_any)
        values = dict(zip(folder.classes, folder.values, strict=True))
        drawings = [
            [
                read_drawing(path, name, values, image, case.image.name, folder.coding)
                for name, path in annotation.files
            ]
            for annotation in case.labels
        ]
    except UserError as error:
        return None, [Finding("error", "unreadable", case.name, str(error))]
    findings = list(_drawing_findings(case, drawings))
    labels = [[drawing.label for drawing in annotator] for annotator in drawings]
    if bad := image.array.size - int(np.isfinite(image.array).sum()):
        message = (
            f"{case.image}: expected finite intensities; {bad} voxels are NaN or infinite. Replace "
            "them (with 0, say)."
        )
        return None, [Finding("error", "not-finite", case.name, message)]
    for annotation, masks in zip(case.labels, labels, strict=True):
        for path, label in zip(annotation.paths, masks, strict=True):
            if fault := grid_fault(path, label, image):
                return None, [Finding("error", fault[0], case.name, fault[1])]
            findings += [
                Finding("warning", "values", case.name, f"{path}: {doubt}")
                for doubt in label.doubts
            ]
            declared = () if annotation.files[0][0] else folder.declared_values
            if shades := shade_fault(path, label.array[0], declared):
                findings.append(Finding("error", "values", case.name, shades))
    flat = image.array.reshape(len(image.array), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    findings += constant_findings(case, low, high)
    if image.stored.itemsize > 1 and image.stored.kind == "u" and high.max() < 256:
        bits = 8 * image.stored.itemsize
        message = (
            f"{case.image}: its {bits}-bit numbers only reach {high.max():g}. Other programs show "
            "it black."
        )
        findings.append(Finding("note", "type", case.name, message))
    counts = [
        _count(annotation, masks, folder)
        for annotation, masks in zip(case.labels, labels, strict=True)
    ]
    findings += _mask_findings(case, counts)
    inside = np.zeros(image.shape, bool)
    for label in labels[0]:
        inside |= label.array[0] > 0
    axes = _axes(image)
    fact = CaseFacts(
        case.name,
        tuple(image.shape[axis] for axis in axes),
        len(image.array),
        is_gray(image),
        str(image.stored),
        None if image.affine is None else tuple(image.spacing[axis] for axis in axes),
        float(low.min()),
        float(high.max()),
        dict(sum(map(Counter, counts), Counter())),
        tuple(tuple(sorted(v for v in count if v and count[v])) for count in counts),
        _object_size(inside),
        image_digest(image),
        {
            number: colour
            for annotation, masks in zip(case.labels, labels, strict=True)
            for label in masks
            if not annotation.files[0][0]  # whatever is not 0 is inside a mask of one class
            for number, colour in label.palette.items()
        },
        _centre(labels, axes),
        all(looks_numbered(label.array[0]) for masks in labels for label in masks),
    )
    return fact, findings


def _axes(image: Image) -> list[int]:
    """Return the stored axes in the order right, anterior, superior."""
    if image.affine is None:
        return list(range(len(image.shape)))
    return [int(axis) for axis in np.argsort(nib.io_orientation(image.affine)[:, 0])]


def _count(annotation: Annotation, labels: Sequence[Image], folder: DataFolder) -> dict[int, int]:
    """Count the voxels of each value.

    If there is one mask per class, the values are the indices of the classes in `folder.classes`.
    """
    if not annotation.files[0][0]:
        numbers = coded(labels[0].array, folder.coding)
        values, counts = np.unique(numbers, return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    sizes = {
        folder.classes.index(name): int((label.array > 0).sum())
        for (name, _), label in zip(annotation.files, labels, strict=True)
        if name in folder.classes
    }
    return {0: max(0, labels[0].array.size - sum(sizes.values())), **sizes}


def _mask_findings(case: CaseFiles, counts: Sequence[dict[int, int]]) -> Iterator[Finding]:
    for annotation, count in zip(case.labels, counts, strict=True):
        path, background, total = annotation.paths[0], count.get(0, 0), sum(count.values())
        if len(count) > MOST_CLASSES:
            yield Finding("error", "values", case.name, too_many(annotation, count))
        elif background == total:
            # One of several annotators may have seen no object.
            level: Level = "warning" if len(case.labels) == 1 else "note"
            yield Finding(
                level,
                "empty",
                case.name,
                f"{path}: the mask is empty. If the image shows an object, draw it.",
            )
        elif background < (1 - _NEARLY_ALL) * total:
            share = 1 - background / total
            yield Finding(
                "warning",
                "values",
                case.name,
                f"{path}: the mask covers {share:.0%} of the image. Is it inverted?",
            )


def _drawing_findings(case: CaseFiles, drawings: Sequence[Sequence[Drawing]]) -> Iterator[Finding]:
    """Find parts of annotations that are left out, and classes that cover each other."""
    for annotation, annotator in zip(case.labels, drawings, strict=True):
        for path, drawing in zip(annotation.paths, annotator, strict=True):
            for words in drawing.notes:
                yield Finding("note", "annotation", case.name, words)
            if drawing.nameless:
                yield Finding(
                    "warning",
                    "annotation",
                    case.name,
                    f"{path}: {drawing.nameless} objects have no class, and are left out. Give "
                    "them one.",
                )
            if drawing.unknown:
                listed = first_few([f"{name} ({n})" for name, n in sorted(drawing.unknown.items())])
                yield Finding(
                    "warning",
                    "annotation",
                    case.name,
                    f"{path}: objects of classes that dataset.json does not declare are left out: "
                    f"{listed}. Declare them, if they matter.",
                )
            if drawing.nowhere:
                yield Finding(
                    "warning",
                    "annotation",
                    case.name,
                    f"{path}: {drawing.nowhere} objects cover no voxel of the image: they lie "
                    "outside, or are points, lines or boxes without an outline. They are left out.",
                )
            if drawing.covered:
                yield Finding(
                    "warning",
                    "annotation",
                    case.name,
                    f"{path}: at {drawing.covered} voxels a class covers another one. The one that "
                    "is drawn later is taken.",
                )


def _centre(labels: Sequence[Sequence[Image]], axes: Sequence[int]) -> tuple[float, ...] | None:
    """Return the middle of everything drawn, relative to the shape, see `CaseFacts.centre`."""
    drawn = np.any([label.array[0] > 0 for masks in labels for label in masks], axis=0)
    if not drawn.any():
        return None
    middle = ndimage.center_of_mass(drawn)
    return tuple((middle[axis] + 0.5) / drawn.shape[axis] for axis in axes)


def _object_size(inside: np.ndarray) -> float:
    """Return the size of a typical object relative to the longer side of the image.

    It is the mean extent of the connected objects, weighted by their area. It is 0 for volumes and
    empty masks.
    """
    if inside.ndim != 2 or not inside.any():
        return 0.0
    numbered, count = ndimage.label(inside)
    areas = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    extents = [
        max(part.stop - part.start for part in box) for box in ndimage.find_objects(numbered)
    ]
    return float(np.average(extents, weights=areas) / max(inside.shape))
