"""`predictions.json`: how the results in a folder were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdal.inference.outputs import OUTPUTS
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_json
from cdal.runtime.version import __version__

_RECORD = "predictions.json"


class Record:
    """`predictions.json` of a folder, including earlier results whose files still exist."""

    def __init__(self, out: Path, failed: dict[str, str]) -> None:
        self.out, self.failed = out, failed
        self.done: list[dict[str, Any]] = []
        self.earlier = [
            row
            for row in _read_record(out)
            if all((out / name).is_file() for name in _results(row))
        ]

    def add(self, row: dict[str, Any]) -> None:
        """Add the row of one more input."""
        mine = set(_results(row))
        self.earlier = [earlier for earlier in self.earlier if not mine & set(_results(earlier))]
        self.done.append(row)

    def free(self, name: str) -> Path:
        """Path of a result.

        Raises:
            UserError: another input has this result, or a file of this name exists that no
                prediction wrote.
        """
        path = self.out / name
        if any(name in _results(row) for row in self.done):
            raise UserError(
                f"{path} is the result of another input of this call. Predict them into two "
                "folders."
            )
        try:
            exists = path.exists()
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror}. Give the input a shorter name."
            ) from error
        if exists and not any(path.name in _results(row) for row in self.earlier):
            raise UserError(
                f"{path} is there and was not made by a prediction; it is kept. Give another --out."
            )
        return path

    def write(self) -> None:
        """Write the file."""
        content = {
            "version": __version__,
            "predictions": [*self.earlier, *self.done],
            "failed": self.failed,
        }
        write_json(self.out / _RECORD, content)


def _read_record(folder: Path) -> list[dict[str, Any]]:
    """Rows of `predictions.json`; empty if the file is missing or was not written by cDAL."""
    try:
        rows = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["predictions"]
        return [row for row in rows if isinstance(row, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _results(row: Mapping[str, Any]) -> list[str]:
    """Names of the files in a row."""
    return [str(row[kind]) for kind in OUTPUTS if kind in row]


def earlier_results(folder: Path) -> list[str]:
    """Names of the files that earlier predictions wrote into a folder."""
    return [name for row in _read_record(folder) for name in _results(row)]
