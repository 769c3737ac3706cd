"""Listing the cases of a data folder, and reading what it declares.

    dataset.json              names of the classes and their values in the labels, see
                              `cdal.datasets.declared`
    labelmap.txt              ... or their colours, also in the folder of the labels; or
                              class_dict.csv
    cases.csv                 properties of cases: case, patient, stratum, split (train, validation
                              or test)
    splits.json               partitions by name:
                              {"five-fold": [{"test": [NAME, ...], "validation": [...]}, ...]}

Where images and labels lie is a layout, see `cdal.datasets.layouts`. Only images and labels are
required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cdal.datasets.declared import declared_classes
from cdal.datasets.labels import by_name, name_classes, renamed, with_values
from cdal.datasets.layout import CASES, DataFolder, Listing
from cdal.datasets.layouts import find_layout
from cdal.datasets.tables import declared_channels, read_about, read_json, read_partitions
from cdal.runtime.errors import UserError


def open_folder(root: Path) -> DataFolder:
    """List the cases of a data folder.

    No images are opened. Labels are opened only if the folder does not declare its classes.

    Raises:
        UserError: the folder is missing, empty or has an unknown layout; an image has no label, or
            a label has no image.
    """
    folder = list_folder(root)
    if folder.problems:
        raise UserError("\n".join(folder.problems))
    return with_values(folder)


def list_folder(root: Path) -> DataFolder:
    """List the cases of a data folder, and collect problems instead of raising them.

    The folder is the same as that of `open_folder`, except that files without partner are listed in
    `problems` and undeclared classes stay unknown.

    Args:
        root: path of the folder, or of a table that lists images and labels.

    Raises:
        UserError: the folder is missing or has an unknown layout, or one of its tables cannot be
            used.
    """
    layout, words = find_layout(root)
    listing = layout.list_cases(root)
    folder = DataFolder(
        root,
        listing.cases,
        problems=listing.problems,
        layout=f"{layout.name}: {words}",
        passed_over=listing.passed_over,
    )
    place = folder.place
    described = read_json(place / "dataset.json")
    labels = {path.parent for c in folder.cases for a in c.labels for path in a.paths}
    declared = declared_classes(place, sorted(labels))
    channels = declared_channels(described, place / "dataset.json")
    return replace(
        folder,
        cases=tuple(replace(case, channels=channels) for case in folder.cases),
        classes=declared.classes,
        values=declared.values,
        coding=declared.coding,
        licence=str(described.get("licence", described.get("license", ""))),
        about=listing.about if root.is_file() else _about(listing, place / CASES),
        partitions=read_partitions(place / "splits.json"),
    )


def _about(listing: Listing, path: Path) -> Mapping[str, Mapping[str, str]]:
    """Join what the layout says of cases with the rows of cases.csv.

    Raises:
        UserError: the two contradict each other, or the table cannot be used.
    """
    table = read_about(path)
    about: dict[str, Mapping[str, str]] = {**table}
    for case, known in listing.about.items():
        row = table.get(case, {})
        for column in ("split", "patient"):
            if column in row and column in known and row[column] != known[column]:
                raise UserError(
                    f"{path}: {case} has the {column} {row[column]}; by its folder it is "
                    f"{known[column]}. Correct one of them."
                )
        about[case] = {**known, **row}
    return about


def named_as(folder: DataFolder, classes: tuple[str, ...]) -> tuple[DataFolder, str]:
    """Give a folder the classes of a model, if nothing contradicts that.

    A folder that names no classes gets the model's names, if there are as many. One whose labels
    hold names and no values gets the model's order, and the classes that its labels do not have.

    Returns:
        The folder, and a note that says which value has which name; the folder unchanged and an
        empty note if it has other classes.
    """
    if (
        folder.classes != classes
        and folder.classes != name_classes(folder.values)
        and set(folder.classes) <= set(classes)
        and by_name(folder)
    ):
        note = f"{folder.root} names some of the model's classes: {', '.join(folder.classes[1:])}"
        return replace(folder, classes=classes, values=tuple(range(len(classes)))), note
    if (
        folder.classes == classes
        or len(folder.classes) != len(classes)
        or folder.classes != name_classes(folder.values)
    ):
        return folder, ""
    named = ", ".join(
        f"{value} = {name}" for value, name in zip(folder.values, classes, strict=True)
    )
    note = f"{folder.root} names no classes; they are called as the model's: {named}"
    return renamed(folder, classes), note
