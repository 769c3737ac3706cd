"""A table that lists images and labels.

    image,label,case,patient,split
    scans/a.nii.gz,drawn/a.nii.gz,a,p1,train

Only `image` and `label` are needed. Paths are relative to the table. Other columns are those of
`cases.csv`.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from cdal.datasets.layout import Annotation, CaseFiles, Listing
from cdal.datasets.layouts.files import image_stem
from cdal.datasets.shared import is_shared
from cdal.datasets.tables import read_rows, unique
from cdal.imaging.formats import format_of
from cdal.runtime.errors import UserError, first_few
from cdal.runtime.text import composed, is_plain

FILES = ("image", "label")
"""Columns of paths, which are needed."""


def readings(root: Path) -> list[str]:
    """Return the reading as a table, in words, if the path is a table and not a folder."""
    return [f"paths in {root.name}"] if root.is_file() else []


def list_cases(root: Path) -> Listing:
    """List the cases of a table.

    Raises:
        UserError: the table cannot be read, lacks a column or a path, or names a case twice.
    """
    rows = read_rows(root)
    if not rows:
        raise UserError(f"{root}: expected a row for each case; it holds none.")
    columns = sorted({column for _, row in rows for column in row})
    for number, row in rows:
        if missing := [column for column in FILES if column not in row]:
            raise UserError(
                f"{root}, line {number}: expected the columns image and label, with a path in each "
                f"row; there is no {' and no '.join(missing)}. Its columns are "
                f"{', '.join(columns)}."
            )
    missing_files, problems = [], []
    cases, about = {}, []
    for number, row in rows:
        image, label = (_found(root.parent, row[column]) for column in FILES)
        name = row.get("case") or composed(image_stem(image) or image.name)
        if not is_plain(name):
            raise UserError(
                f"{root}, line {number}: expected a name without control characters; it is "
                f"{name!a}."
            )
        about.append((name, {**row, "case": name}))
        cases[name] = CaseFiles(name, (image,), (Annotation((("", label),)),))
        for path in (image, label):
            if not path.exists():
                missing_files.append(f"{path} (line {number})")
            elif format_of(path) is None and path == image:
                problems.append(f"{root}, line {number}: {path} is no image that can be read.")
    if missing_files:
        problems.insert(
            0,
            f"{root}: these files are not there: {first_few(missing_files)}. Paths are relative to "
            f"{root.parent.resolve()}; correct them.",
        )
        cases = {
            name: case
            for name, case in cases.items()
            if case.image.exists() and case.labels[0].paths[0].exists()
        }
    rows_of_cases = unique(about, root)
    problems += _used_twice(root, cases)
    return Listing(tuple(cases[name] for name in sorted(cases)), rows_of_cases, tuple(problems))


def _found(folder: Path, text: str) -> Path:
    """Return the path, with accents as the file system has them and separators of any system."""
    path = folder / text
    if path.exists():
        return path
    others = [folder / unicodedata.normalize("NFD", text), folder / text.replace("\\", "/")]
    return next((other for other in others if other.exists()), path)


def _used_twice(root: Path, cases: dict[str, CaseFiles]) -> list[str]:
    """Return a problem for files of one label that belong to several images."""
    by_label: dict[Path, list[str]] = {}
    for name, case in cases.items():
        by_label.setdefault(case.labels[0].paths[0].resolve(), []).append(name)
    return [
        f"{root}: {path} is the label of several cases: {first_few(names)}. Give each its own."
        for path, names in by_label.items()
        if len(names) > 1 and not is_shared(path)
    ]
