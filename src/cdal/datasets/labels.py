"""Conversion of label values to classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cdal.datasets.values import coded, read_values, shown
from cdal.imaging.formats import read_label
from cdal.imaging.grid import off_grid
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

if TYPE_CHECKING:
    from cdal.datasets.layout import Annotation, DataFolder


MOST_CLASSES = 64
"""Largest number of classes.

Labels with more values hold object numbers or probabilities, or were interpolated.
"""


def with_values(folder: DataFolder) -> DataFolder:
    """Return the folder with its classes.

    Undeclared classes are those found in the labels, in the order of their values.

    Raises:
        UserError: a label is damaged, or the values are not classes.
    """
    if not folder.classes:
        folder = with_masks_named(folder)
    if folder.classes:
        return folder
    values: set[int] = set()
    for case in folder.cases:
        for annotation in case.labels:
            for path in annotation.paths:
                values |= {int(value) for value in np.unique(read_label(path).array)}
            if len(values) > MOST_CLASSES:
                raise UserError(too_many(annotation, values))
    return with_classes_of(folder, values)


def with_classes_of(folder: DataFolder, values: set[int]) -> DataFolder:
    """Return the folder with a class for each value; with two classes if all labels are empty."""
    all_values = values | {0} | (set() if values - {0} else {1})
    return replace(folder, classes=name_classes(all_values), values=tuple(sorted(all_values)))


def with_masks_named(folder: DataFolder) -> DataFolder:
    """Return the folder with the classes that its mask files are named after.

    The folder is returned unchanged if it does not have one mask per class.
    """
    named = {
        name for case in folder.cases for annotation in case.labels for name, _ in annotation.files
    } - {"", "background"}
    names = ("background", *sorted(named))
    return replace(folder, classes=names, values=tuple(range(len(names)))) if named else folder


def name_classes(values: Iterable[int]) -> tuple[str, ...]:
    """Return names for undeclared classes.

    The only class besides background is `foreground`. Several are `class 2` for the value 2, or
    `class #ff0000` for the colour red.
    """
    foreground = sorted(set(values) - {0})
    if len(foreground) <= 1:
        return ("background", "foreground")
    return (
        "background",
        *[f"class {value}" if value < 2**16 else f"class #{value:06x}" for value in foreground],
    )


def too_many(annotation: Annotation, values: Iterable[int]) -> str:
    """Return the error message for labels whose values are not classes."""
    count = len(set(values))
    path = annotation.paths[0]
    jpeg_hint = (
        ". JPEG changes values where it saves space: convert the masks to PNG with only the "
        "values that you meant"
    )
    objects_hint = (
        '. Numbered objects become one class by {"labels": {"background": 0, "NAME": '
        '"foreground"}} in dataset.json. An interpolated mask has to be cut at one half; then '
        "declare the "
    )
    hint = (
        jpeg_hint
        if path.suffix.lower() in (".jpg", ".jpeg")
        else objects_hint + 'classes in dataset.json: {"labels": {"background": 0, ...}}'
    )
    return (
        f"{path}: expected a label image with a value for each class; the labels hold {count} "
        f"values and more{hint}."
    )


def read_annotation(annotation: Annotation, folder: DataFolder) -> Image:
    """Read the classes that an annotator drew, `[1, *S]` uint8.

    Classes are indices into `folder.values`. If there is one mask per class, values other than 0
    are inside. If masks overlap, the class of the later file covers the earlier one.

    Raises:
        UserError: a file is damaged, has another grid, or contains a value that is not a class.
    """
    (name, path), *rest = annotation.files
    if not name:
        label = read_values(path, folder.coding)
        return replace(label, array=_classes_of(label, folder, path))
    first = read_label(path)
    classes = np.zeros(first.array.shape, np.uint8)
    for name, path in annotation.files:
        label = read_label(path) if rest else first
        need_on_grid(path, label, first, annotation.paths[0].name)
        if name not in folder.classes:
            raise UserError(
                f"{path}: expected a mask of one of {', '.join(folder.classes[1:])}; it is called "
                f"{name}."
            )
        classes[label.array > 0] = folder.classes.index(name)
    return replace(first, array=classes)


def _classes_of(label: Image, folder: DataFolder, path: object) -> np.ndarray:
    values, numbers = np.array(folder.values), coded(label.array, folder.coding)
    indices = np.searchsorted(values, numbers).clip(max=len(values) - 1)
    undeclared = np.unique(numbers[values[indices] != numbers])
    if len(undeclared):
        expected = ", ".join(
            f"{shown(value, folder.coding)} ({name})"
            for value, name in zip(folder.values, folder.classes, strict=True)
        )
        found = ", ".join(shown(int(value), folder.coding) for value in undeclared[:5])
        proposal = f", {propose(folder.values, undeclared)}" if folder.coding == "values" else ""
        raise UserError(
            f"{path}: expected classes {expected}; it holds {found}. Declare them in "
            f"dataset.json{proposal}, or renumber the label."
        )
    return indices.astype(np.uint8)


def propose(values: Iterable[int], undeclared: Iterable[int]) -> str:
    """Return the `labels` entry for dataset.json that declares all values.

    Args:
        values: declared values.
        undeclared: values that are not declared.
    """
    all_values = sorted({*values, *map(int, undeclared)})
    named = dict(zip(name_classes(all_values), all_values, strict=False))
    return '"labels": {' + ", ".join(f'"{name}": {value}' for name, value in named.items()) + "}"


def grid_fault(
    path: Path, label: Image, image: Image, name: str = "its image"
) -> tuple[str, str] | None:
    """Return why a label does not match the grid of its image, or `None` if it does.

    Returns:
        `shape` or `affine`, and the error message.
    """
    if label.shape != image.shape:
        return "shape", f"{path}: expected the shape of {name}, {image.shape}; it is {label.shape}."
    if fault := off_grid(label, image):
        return (
            "affine",
            f"{path}: expected the affine of {name}; the {fault} Export the label on the grid of "
            "its image, or resample it to that (by nearest neighbours).",
        )
    return None


def need_on_grid(path: Path, label: Image, image: Image, name: str = "its image") -> None:
    """Require that a label has the grid of its image.

    Raises:
        UserError: the shape or the affine differs.
    """
    if fault := grid_fault(path, label, image, name):
        raise UserError(fault[1])
