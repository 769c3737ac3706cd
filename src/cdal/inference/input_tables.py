"""Tables that list inputs: CSV, TSV and Parquet, read some rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.datasets.tables import rows_of_text
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
        place: where it stands: `line 3` as editors count, or `row 2` in Parquet, which has no
            lines.
    """

    path: str
    name: str
    place: str


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, by its suffix."""
    return path.suffix.lower() in (*_TEXT, _PARQUET)


def rows_of(table: Path) -> Iterator[Row]:
    """The rows of a table with the columns `path` and, if there is one, `name`.

    Columns of text are separated by commas, semicolons or tabs.

    Raises:
        UserError: as `rows_of_text`; or the table cannot be read, has no column `path` or two, or
            is Parquet and PyArrow is not installed.
    """
    with _readable(table):
        rows = _parquet(table) if table.suffix.lower() == _PARQUET else _text(table)
        for place, row in rows:
            path, name = (str(row.get(column) or "").strip() for column in (_PATH, _NAME))
            yield Row(cell_text(path), cell_text(name), place)


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


def _text(table: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = rows_of_text(table, file, (_PATH,))
        _, columns = next(rows)
        _need_path(table, columns)
        for line, cells in rows:
            yield f"line {line}", dict(zip(columns, cells, strict=False))


def _parquet(table: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    file = _open_parquet(table)
    columns = list(file.schema_arrow.names)
    _need_path(table, columns)
    wanted = [column for column in (_PATH, _NAME) if column in columns]
    batches = file.iter_batches(_ROWS_AT_ONCE, columns=wanted)
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


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
    except (OSError, ValueError) as error:  # PyArrow's are among them
        raise UserError(f"{table} cannot be read as a table: {error}.") from error
