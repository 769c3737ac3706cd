"""Tables that list inputs: CSV, TSV and Parquet, read some rows at a time."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.datasets.tables import delimiter_of
from cdal.runtime.errors import UserError, first_few
from cdal.runtime.text import cell_text, is_plain

_TEXT = (".csv", ".tsv")
_PARQUET = ".parquet"
_PATH, _NAME = "path", "name"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Row:
    """A row of a table of inputs.

    Attributes:
        path: path of the image, perhaps relative to the folder of the table; empty if there is
            none.
        name: name of its results; empty for that of the file.
    """

    path: str
    name: str


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, by its suffix."""
    return path.suffix.lower() in (*_TEXT, _PARQUET)


def rows_of(table: Path) -> Iterator[Row]:
    """The rows of a table with the columns `path` and, if there is one, `name`.

    Columns of text are separated by commas, semicolons or tabs.

    Raises:
        UserError: the table cannot be read, has no column `path` or two, or is Parquet and PyArrow
            is not installed.
    """
    with _readable(table):
        for row in _parquet(table) if table.suffix.lower() == _PARQUET else _text(table):
            path, name = (str(row.get(column) or "").strip() for column in (_PATH, _NAME))
            yield Row(cell_text(path), cell_text(name))


def count_rows(table: Path) -> int:
    """About how many rows a table has; errors are those of `rows_of`."""
    with _readable(table):
        if table.suffix.lower() == _PARQUET:
            return int(_open_parquet(table).metadata.num_rows)
        with table.open("rb") as file:
            return max(0, sum(not line.isspace() for line in file) - 1)


def is_name(name: str) -> bool:
    """Whether results can be called so: it is the name of a file, and of none that is hidden."""
    return is_plain(name) and not name.startswith(".") and not set("/\\\0") & set(name)


def need_name(name: str, place: str) -> None:
    """Refuse a name that no file can have.

    Raises:
        UserError: no file can, or it would be hidden.
    """
    if not is_name(name):
        raise UserError(f"{place}: {name!r} is no name for results. Expected one without / and \\.")


def _text(table: Path) -> Iterator[Mapping[str, Any]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        delimiter = delimiter_of(head, (_PATH,))
        reader = csv.reader(itertools.chain([head], file), delimiter=delimiter, strict=True)
        columns: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise _unpaired(table, line, reader.line_num, error) from error
            if columns is None:
                columns = [name.strip().lower() for name in cells or []]
                _need_path(table, columns)
            elif cells is None:
                return
            elif len(cells) > len(columns) and any(cells[len(columns) :]):
                raise UserError(
                    f"{table}, line {line}: expected {len(columns)} cells, one for each column; "
                    f"there are {len(cells)}. Put paths with {delimiter!r} into quotation marks."
                )
            elif cells:
                yield dict(zip(columns, cells, strict=False))


def _unpaired(table: Path, first: int, last: int, error: csv.Error) -> UserError:
    """The error of a row that cannot be divided into cells."""
    lines = f"line {first}" if last <= first else f"lines {first} to {last}"
    return UserError(
        f"{table}, {lines}: expected quotation marks in pairs, around whole cells ({error}). Is "
        "one not closed? Within a cell, write each of them twice."
    )


def _parquet(table: Path) -> Iterator[Mapping[str, Any]]:
    file = _open_parquet(table)
    columns = list(file.schema_arrow.names)
    _need_path(table, columns)
    wanted = [column for column in (_PATH, _NAME) if column in columns]
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
        yield from batch.to_pylist()


def _open_parquet(table: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"{table}: Parquet needs PyArrow, which is not installed: pip install 'cdal[parquet]'. "
            "Or write the table as CSV."
        ) from error
    return parquet.ParquetFile(table)


def _need_path(table: Path, columns: list[str]) -> None:
    for column in (_PATH, _NAME):
        if columns.count(column) > 1:
            raise UserError(f"{table}: expected each column once; {column!r} occurs twice.")
    if _PATH not in columns:
        signs = " Commas, semicolons or tabs separate columns." if len(columns) == 1 else ""
        raise UserError(
            f"{table}: expected a column {_PATH!r} with the paths of images, and perhaps {_NAME!r} "
            f"with the names of their results; it has {first_few(columns) or 'no columns'}.{signs}"
        )


@contextmanager
def _readable(table: Path) -> Iterator[None]:
    """Turn what the readers raise into an error for the user."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(
            f"{table} cannot be read as a table: expected text in UTF-8 ({error}). Save it as such."
        ) from error
    except (OSError, ValueError, csv.Error) as error:  # PyArrow's are among them
        raise UserError(f"{table} cannot be read as a table: {error}.") from error
