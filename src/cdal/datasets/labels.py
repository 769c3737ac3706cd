"""From label files to classes: which values stand for what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cdal.imaging.formats import read_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

if TYPE_CHECKING:
    from cdal.datasets.layout import Annotation, DataFolder


MOST_CLASSES = 64
"""More values than these are no classes: instances, probabilities, or a mask that was interpolated."""


def with_values(folder: DataFolder) -> DataFolder:
    """The folder with its classes: those declared; otherwise those that the labels hold, in the order of their values.

    Raises:
        UserError: a label is damaged, or the values are no classes.
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
    """The folder with a class for each value of its labels; with two classes where they are all empty."""
    everything = values | {0} | (set() if values - {0} else {1})
    return replace(folder, classes=name_classes(everything), values=tuple(sorted(everything)))


def with_masks_named(folder: DataFolder) -> DataFolder:
    """The folder with the classes after which its files are called, where there is one mask for each class; otherwise as it is."""
    named = {name for case in folder.cases for annotation in case.labels for name, _ in annotation.files} - {"", "background"}
    names = ("background", *sorted(named))
    return replace(folder, classes=names, values=tuple(range(len(names)))) if named else folder


def name_classes(values: Iterable[int]) -> tuple[str, ...]:
    """Names for undeclared classes: `foreground`, or `class 2` for the value 2; red, say, is `class #ff0000`."""
    inside = sorted(set(values) - {0})
    if len(inside) <= 1:
        return ("background", "foreground")
    return ("background", *[f"class {value}" if value < 2**16 else f"class #{value:06x}" for value in inside])


def too_many(annotation: Annotation, values: Iterable[int]) -> str:
    """What to say of labels whose values are no classes."""
    count = len(set(values))
    path = annotation.paths[0]
    lossy = ". JPEG changes values where it saves space: convert the masks to PNG with only the values that you meant"
    cells = ". Numbered objects have to become one class, and an interpolated mask has to be cut at one half; then declare the "
    hint = (
        lossy if path.suffix.lower() in (".jpg", ".jpeg") else cells + 'classes in dataset.json: {"labels": {"background": 0, ...}}'
    )
    return f"{path}: expected a label image with a value for each class; the labels hold {count} values and more{hint}."


def read_annotation(annotation: Annotation, folder: DataFolder) -> Image:
    """The classes that an annotator chose, `[1, *S]` of uint8: the values' places in `folder.values`.

    Of masks by class, whatever is not 0 is inside, and a later class lies on top of an earlier one.

    Raises:
        UserError: a file is damaged, its grid differs, or it holds a value that stands for no class.
    """
    (name, path), *others = annotation.files
    first = read_label(path)
    if not name:
        return replace(first, array=_classes_of(first, folder, path))
    classes = np.zeros(first.array.shape, np.uint8)
    for name, path in annotation.files:
        label = read_label(path) if others else first
        need_on_grid(path, label, first, annotation.paths[0].name)
        if name not in folder.classes:
            raise UserError(f"{path}: expected a mask of one of {', '.join(folder.classes[1:])}; it is called {name}.")
        classes[label.array > 0] = folder.classes.index(name)
    return replace(first, array=classes)


def _classes_of(label: Image, folder: DataFolder, path: object) -> np.ndarray:
    values = np.array(folder.values)
    place = np.searchsorted(values, label.array).clip(max=len(values) - 1)
    strange = np.unique(label.array[values[place] != label.array])
    if len(strange):
        expected = ", ".join(f"{value} ({name})" for value, name in zip(folder.values, folder.classes, strict=True))
        raise UserError(
            f"{path}: expected classes {expected}; it holds {', '.join(map(str, strange[:5]))}. "
            f"Declare them in dataset.json, {propose(folder.values, strange)}, or renumber the label."
        )
    return place.astype(np.uint8)


def propose(values: Iterable[int], strange: Iterable[int]) -> str:
    """The `labels` that would take the strange values in."""
    everything = sorted({*values, *map(int, strange)})
    named = dict(zip(name_classes(everything), everything, strict=False))
    return '"labels": {' + ", ".join(f'"{name}": {value}' for name, value in named.items()) + "}"


def grid_fault(path: Path, label: Image, image: Image, name: str = "its image") -> tuple[str, str] | None:
    """Why a label does not lie on its image: `shape` or `affine`, and what to say of it; or none."""
    if label.shape != image.shape:
        return "shape", f"{path}: expected the shape of {name}, {image.shape}; it is {label.shape}."
    if image.affine is not None and label.affine is not None and not np.allclose(image.affine, label.affine, atol=1e-2):
        return "affine", f"{path}: expected the affine of {name}; it differs, so the two do not lie on each other."
    return None


def need_on_grid(path: Path, label: Image, image: Image, name: str = "its image") -> None:
    """Make sure that a label lies on its image.

    Raises:
        UserError: the shape or the affine differs.
    """
    if fault := grid_fault(path, label, image, name):
        raise UserError(fault[1])
