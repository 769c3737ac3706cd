"""Reading `dataset.json`, `splits.json` and tables of cases."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdal.runtime.errors import UserError
from cdal.runtime.text import cell_text, composed, printable

PARTS = ("train", "validation", "test")
"""Parts of a partition."""

_COLUMNS = ("case", "image", "name")
"""Columns of which each table of a data folder has one."""

_SIGNS = (",", ";", "\t")
"""What programs write between columns, whatever the name of the file says."""

_BLANK = ' \r\n"' + "".join(_SIGNS)
"""What a line without names of columns holds."""

_PART_WORDS = {**{part: part for part in PARTS}, "val": "validation"}

_SPLIT_WORDS = frozenset(
    (*_PART_WORDS, "training", "testing", "valid", "dev", "development", "holdout", "external")
)
"""Values that show that a column is a split, whatever its name."""


def part_of(word: str) -> str | None:
    """Return the part that a word names, capital letters aside; `None` if it names none."""
    return _PART_WORDS.get(word.strip().lower())


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if there is no such file.

    Raises:
        UserError: the file cannot be read, is nested too deep, has a key twice, or is no object.
    """
    if not path.is_file():
        return {}

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            double = next(key for key in keys if keys.count(key) > 1)
            raise UserError(f"{path}: expected each key once; {double!r} occurs twice. Remove one.")
        return found

    try:
        # Editors of Windows begin UTF-8 files with a byte order mark.
        declared = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=without_doubles
        )
    except RecursionError as error:
        raise UserError(f"{path} cannot be read as JSON: it is nested too deep.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(declared, dict):
        raise UserError(f"{path}: expected a JSON object; it holds a {type(declared).__name__}.")
    return declared


def declared_channels(declared: Mapping[str, Any], path: Path) -> int | None:
    """Return the number of channels that dataset.json declares; `None` if it declares none.

    Args:
        declared: content of dataset.json.
        path: its path, for the error message.

    Raises:
        UserError: `channel_names` or `modality` is no list of names.
    """
    key = "channel_names" if "channel_names" in declared else "modality"
    names = declared.get(key)
    if names is None or (key == "modality" and isinstance(names, str)):
        return None
    if not isinstance(names, (dict, list)) or not names:
        raise UserError(
            f'{path}: expected "{key}": {{"0": "CT", ...}}, a name for each channel; it holds '
            f"{names!r:.80}."
        )
    return len(names)


def delimiter_of(head: str, wanted: Collection[str]) -> str:
    """Return the sign between the columns of a table: a comma, a semicolon or a tab.

    It is the one by which there is a column that is wanted, and of several that with most columns.

    Args:
        head: the first line.
        wanted: names of columns in small letters.
    """

    def fitness(sign: str) -> tuple[bool, int]:
        columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=sign), [])]
        return not set(columns).isdisjoint(wanted), len(columns)

    return max(_SIGNS, key=fitness)


def rows_of_text(
    path: Path, lines: Iterable[str], wanted: Collection[str]
) -> Iterator[tuple[int, list[str]]]:
    """Return the rows of a table as cells, each with the number of its first line.

    The first row are the names of the columns, in small letters; none in an empty file. Lines are
    counted from 1, as editors do. Empty lines are left out.

    Args:
        path: path of the table, for messages.
        lines: its lines.
        wanted: names of columns, see `delimiter_of`.

    Raises:
        UserError: the first line is empty, a row cannot be divided into cells, or it has more cells
            than there are columns.
    """
    lines = iter(lines)
    head = next(lines, "")
    if head and not head.strip(_BLANK):
        raise UserError(f"{path}, line 1: expected the names of the columns; it is empty.")
    delimiter = delimiter_of(head, wanted)
    reader = csv.reader(itertools.chain([head], lines), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _no_cells(path, line, reader.line_num, error) from error
        if cells is None:
            return
        if columns is None:
            columns = [name.strip().lower() for name in cells]
            yield line, columns
        elif any(cell.strip() for cell in cells[len(columns) :]):
            raise UserError(
                f"{path}, line {line}: expected {len(columns)} cells, one for each column; it has "
                f"{len(cells)}. Put cells with {delimiter!r} into quotation marks."
            )
        elif cells:
            yield line, cells


def _no_cells(path: Path, first: int, last: int, error: csv.Error) -> UserError:
    """The error of a row that cannot be divided into cells."""
    if last <= first and "field limit" in str(error):
        return UserError(
            f"{path}, line {first}: expected cells of up to {csv.field_size_limit()} characters; "
            "it has a longer one. Shorten it."
        )
    lines = f"line {first}" if last <= first else f"lines {first} to {last}"
    return UserError(
        f"{path}, {lines}: expected quotation marks in pairs, around whole cells ({error}). Is "
        "one not closed? Within a cell, write each of them twice."
    )


def read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table with the numbers of their lines.

    Columns are separated by commas, semicolons or tabs; their names are in small letters. Empty
    cells are left out, as are empty rows.

    Raises:
        UserError: as `rows_of_text`; or the file cannot be read, or two columns have the same name.
    """
    try:
        text = io.StringIO(path.read_text(encoding="utf-8-sig"), newline=None)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}.") from error
    (_, columns), *listed = rows_of_text(path, text, _COLUMNS)
    if double := next((name for name in columns if name and columns.count(name) > 1), None):
        raise UserError(f"{path}: expected each column once; {double!r} occurs twice.")
    rows = []
    for line, cells in listed:
        row = {
            column: composed(cell_text(cell.strip()))
            for column, cell in zip(columns, cells, strict=False)
            if column and cell.strip()
        }
        rows += [(line, row)] if row else []
    return rows


def read_about(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of cases.csv by case; empty if there is no such file.

    Raises:
        UserError: a row has no case, or a case has several rows.
    """
    if not path.is_file():
        return {}
    rows = [row for _, row in read_rows(path)]
    if any("case" not in row for row in rows):
        columns = ", ".join(rows[0])
        raise UserError(
            f"{path}: expected a column `case` (with a name in each row) beside patient, stratum "
            f"or split; it has {columns}."
        )
    return unique(((row["case"], row) for row in rows), path)


def unique(rows: Iterable[tuple[str, dict[str, str]]], path: Path) -> dict[str, dict[str, str]]:
    """Return rows by case, with the known words of the column `split` as names of parts.

    Raises:
        UserError: a case has several rows.
    """
    about: dict[str, dict[str, str]] = {}
    for case, row in rows:
        if case in about:
            raise UserError(f"{path}: expected one row for each case; {case} has several.")
        part = part_of(row.get("split", ""))
        about[case] = {**row, "split": part} if part else row
    return about


def column_like_split(rows: Sequence[Mapping[str, str]]) -> str | None:
    """Return the name of a column that reads like a split and is not called so."""
    columns = {column for row in rows for column in row}
    if "split" in columns:
        return None
    for column in sorted(columns - {"case", "patient", "stratum"}):
        words = {row[column].lower() for row in rows if column in row}
        if words <= _SPLIT_WORDS and (len(words) > 1 or not all(column in row for row in rows)):
            return column
    return None


def read_partitions(path: Path) -> dict[str, list[dict[str, list[str]]]]:
    """Return the partitions of splits.json; empty if there is no such file.

    Raises:
        UserError: the file has another form, or a part names a case twice.
    """
    return {
        composed(name): [_fold(path, name, fold) for fold in _folds(path, name, folds)]
        for name, folds in read_json(path).items()
    }


def _folds(path: Path, name: str, folds: Any) -> Sequence[Any]:
    if not isinstance(folds, list) or not folds:
        raise _other_form(path, name, folds)
    return folds


def _fold(path: Path, name: str, fold: Any) -> dict[str, list[str]]:
    if not isinstance(fold, dict):
        raise _other_form(path, name, fold)
    parts = {part_of(word): names for word, names in fold.items()}
    if (
        "test" not in parts
        or None in parts
        or len(parts) < len(fold)
        or not all(
            isinstance(names, list) and all(isinstance(case, str) for case in names)
            for names in parts.values()
        )
    ):
        raise _other_form(path, name, fold)
    listed = {str(part): [composed(case) for case in names] for part, names in parts.items()}
    for part, names in listed.items():
        if double := next((case for case in names if names.count(case) > 1), None):
            raise UserError(f"{path}: the partition {name} names {double} twice in {part}.")
    return listed


def _other_form(path: Path, name: str, found: Any) -> UserError:
    return UserError(
        f'{path}: expected {{"{printable(name)}": [{{"test": [names], "train": [names], '
        '"validation": [names]}, ...]}, of which test is needed; it holds '
        f"{found!r:.80}."
    )
