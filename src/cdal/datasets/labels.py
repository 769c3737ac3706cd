"""Conversion of label values to classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.datasets.drawing import class_names, read_drawing, spelt
from cdal.datasets.layout import Annotation, DataFolder
from cdal.datasets.values import coded, shown
from cdal.imaging.annotations import AnnotationFormat, annotation_format
from cdal.imaging.formats import read_label, suffix_of
from cdal.imaging.grid import off_grid
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError, first_few
from cdal.runtime.text import composed, is_plain

MOST_CLASSES = 64
"""Largest number of classes.

Labels with more values hold object numbers or probabilities, or were interpolated.
"""

_LEFT_OUT = re.compile(r"^_*(ignored?|void|unlabell?ed)[*_]*$", re.IGNORECASE)
"""Names of objects that mark what is to be left out; QuPath's is `Ignore*`."""


def with_values(folder: DataFolder) -> DataFolder:
    """Return the folder with its classes.

    Undeclared classes are those that the annotations name; or those found in the label images, in
    the order of their values.

    Raises:
        UserError: a label is damaged, the values are not classes, or names clash.
    """
    folder, problems = with_names(folder)
    if problems:
        raise UserError("\n".join(problems))
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


def with_names(folder: DataFolder) -> tuple[DataFolder, list[str]]:
    """Return the folder with the classes that its files name, and reasons why that cannot be.

    Masks are named by their file, annotations by their content. If no annotation of the folder
    names a class, all that is drawn belongs to the only class besides background. Files that cannot
    be read are passed over: reading their case says why.
    """
    if not folder.classes:
        folder = with_masks_named(folder)
    files: dict[Path, AnnotationFormat | None] = {}
    for case in folder.cases:
        for annotation in case.labels:
            name, path = annotation.files[0]
            if not name and path not in files:
                files[path] = annotation_format(path)
    drawn = {path: known for path, known in files.items() if known is not None}
    images = [path for path, known in files.items() if known is None and suffix_of(path)]
    if not drawn:
        return folder, []
    named: dict[str, Path] = {}
    for path, known in drawn.items():
        with suppress(UserError):
            named |= {name: path for name in class_names(known, path) if name not in named}
    problems = [*_clashes(named, folder), *_no_classes(named, folder)]
    names = sorted({spelt(name) for name in named if is_plain(spelt(name))})
    if not folder.classes:
        if images:
            problems.append(
                f"{images[0]} holds values, {next(iter(drawn))} an annotation with names. "
                "Say which value is which name in dataset.json: "
                '{"labels": {"background": 0, ...}}.'
            )
        elif len(names) >= MOST_CLASSES:
            problems.append(
                f"{folder.root}: expected names of classes; the annotations have {len(names)} "
                f"({first_few(names)}). Are they the names of single objects? Give the objects of "
                "a class the same name, or declare the classes in dataset.json."
            )
        names = names[: MOST_CLASSES - 1] or ["foreground"]
        classes = ("background", *names)
        folder = replace(folder, classes=classes, values=tuple(range(len(classes))))
    if not named and len(folder.classes) == 2:
        folder = _all_as(folder, folder.classes[1], drawn)
    return folder, problems


def _clashes(named: Mapping[str, Path], folder: DataFolder) -> Iterator[str]:
    """Find names that differ only in case or white space."""
    first: dict[str, tuple[str, Path]] = {
        _key(name): (name, folder.place / "dataset.json") for name in folder.classes[1:]
    }
    for name, path in named.items():
        own, where = first.setdefault(_key(name), (name, path))
        if own != name:
            yield (
                f"{where} names a class {own!r}, {path} names one {name!r}. Is it the same class? "
                "Give it one name."
            )


def _no_classes(named: Mapping[str, Path], folder: DataFolder) -> Iterator[str]:
    """Find names that cannot be printed, and names of what is to be left out."""
    for name, path in named.items():
        if not is_plain(spelt(name)):
            yield (
                f"{path}: expected names of classes without control characters; one is {name!a}. "
                "Rename it."
            )
        elif not folder.classes and _LEFT_OUT.match(name.strip()):
            yield (
                f"{path}: {name!r} is no class: it marks what is to be left out, which cDAL cannot "
                "do. Remove these objects; or declare the other classes in dataset.json: then "
                "these become background."
            )


def _key(name: str) -> str:
    return composed("".join(name.split())).casefold()


def _all_as(folder: DataFolder, name: str, drawn: Collection[Path]) -> DataFolder:
    """Return the folder with everything in some files belonging to a class."""
    return _with_files(folder, lambda own, path: name if path in drawn else own)


def renamed(folder: DataFolder, classes: tuple[str, ...]) -> DataFolder:
    """Return the folder with other names of its classes, also those of files of one class."""
    names = dict(zip(folder.classes, classes, strict=True))
    folder = _with_files(folder, lambda own, path: names.get(own, own))
    return replace(folder, classes=classes)


def by_name(folder: DataFolder) -> bool:
    """Whether each label says the class of what it holds by name, not by a value."""
    return all(
        name or annotation_format(path) is not None
        for case in folder.cases
        for annotation in case.labels
        for name, path in annotation.files
    )


def _with_files(folder: DataFolder, name: Callable[[str, Path], str]) -> DataFolder:
    """Return the folder with the names of the classes of its label files given by a function."""
    cases = [
        replace(
            case,
            labels=tuple(
                Annotation(tuple((name(own, path), path) for own, path in annotation.files))
                for annotation in case.labels
            ),
        )
        for case in folder.cases
    ]
    return replace(folder, cases=tuple(cases))


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


def read_annotation(
    annotation: Annotation, folder: DataFolder, image: Image, image_name: str
) -> Image:
    """Read the classes that an annotator drew, `[1, *S]` uint8, on the axes of the image.

    Classes are indices into `folder.values`. If there is one mask per class, values other than 0
    are inside. If masks overlap, the class of the later file covers the earlier one.

    Args:
        annotation: files of the annotator.
        folder: data folder with its classes.
        image: the image, on whose grid outlines are drawn.
        image_name: file name of the image.

    Raises:
        UserError: a file is damaged, has another grid, or contains a value that is not a class.
    """
    values = dict(zip(folder.classes, folder.values, strict=True))
    labels = [
        (name, path, read_drawing(path, name, values, image, image_name, folder.coding).label)
        for name, path in annotation.files
    ]
    name, path, first = labels[0]
    if not name:
        return replace(first, array=_classes_of(first, folder, path))
    classes = np.zeros(first.array.shape, np.uint8)
    for name, path, label in labels:
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
