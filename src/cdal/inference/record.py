"""How the results in a folder were made: one record for each case, and `predictions.json`.

A record, `.cdal/records/NAME.json`, is written before the results of its case are moved to their
place, and again afterwards. Whatever kills a process in between, the next call knows its files.
Several processes may write into one folder: they take turns to write records and to move results.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cdal.inference.outputs import OUTPUTS
from cdal.runtime.errors import UserError
from cdal.runtime.files import digest_of, scratch_folder, taking_turns, write_json
from cdal.runtime.version import __version__

_MERGED = "predictions.json"
_HOME = ".cdal"
_SECONDS_BETWEEN_MERGES, _SHARE_OF_MERGES = 30.0, 0.02


@dataclass(frozen=True)
class Entry:
    """Results of one case, made by one call.

    Attributes:
        key: what decides the results, as a checksum; empty if that is not known.
        files: checksum of each file by its name.
        done: whether the files are known to be in their place.
        row: row of `predictions.json`.
    """

    key: str
    files: Mapping[str, str]
    done: bool
    row: dict[str, Any]

    def owns(self, path: Path) -> bool:
        """Whether a file that exists is of this entry, and not a stranger's of the same name."""
        if path.name not in self.files or not path.is_file():
            return False
        return self.done or digest_of(path) == self.files[path.name]

    def whole(self, out: Path, unsure: Collection[str]) -> bool:
        """Whether all files are in their place.

        Args:
            out: folder of the results.
            unsure: names of files that a call may have replaced before it was killed. Only their
                bytes tell whose they are.
        """
        return all(
            self.owns(out / name)
            and (not self.done or name not in unsure or digest_of(out / name) == digest)
            for name, digest in self.files.items()
        )

    def without(self, names: Iterable[str]) -> Entry:
        """What is left of this entry after other results have taken these names."""
        gone = set(names) & set(self.files)
        if not gone:
            return self
        files = {name: digest for name, digest in self.files.items() if name not in gone}
        row = {field: value for field, value in self.row.items() if value not in list(gone)}
        return Entry("", files, self.done, row)


class Record:
    """The record of a folder and of one call that writes into it.

    Args:
        out: folder of the results.
        failed: message for each input that failed, by its path.

    Attributes:
        done: rows of this call.
    """

    def __init__(self, out: Path, failed: dict[str, str]) -> None:
        self.out, self.failed = out, failed
        self.done: list[dict[str, Any]] = []
        self._tried: set[str] = set()
        self._merged = self._merging = 0.0
        self._known = _all_entries(out)

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder for what is being made, on the disk of the results."""
        return scratch_folder(self.out / _HOME / "tmp")

    def finished(self, case: str, key: str) -> dict[str, Any] | None:
        """The row of a case whose results were made before; `None` if there are none.

        Args:
            case: name of the record.
            key: what decides the results, see `Entry`.
        """
        entries = _entries(self.out, case) if key else []
        unsure = _unsure(entries)
        return next((e.row for e in entries if e.key == key and e.whole(self.out, unsure)), None)

    def free(self, case: str, name: str) -> Path:
        """Path of a result.

        Args:
            case: name of the record.
            name: name of the file.

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
            exists = path.exists() or path.is_symlink()
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror}. Give the input a shorter name."
            ) from error
        if exists and not self._ours(case, path):
            raise UserError(
                f"{path} is there and was not made by a prediction; it is kept. Give another --out."
            )
        return path

    def add(self, case: str, key: str, row: dict[str, Any], made: Sequence[Path]) -> None:
        """Move the results of a case to their place, and add its row.

        Args:
            case: name of the record.
            key: what decides the results, see `Entry`.
            row: row of `predictions.json`.
            made: files with the names of the results, in another folder of the same disk.

        Raises:
            UserError: as `free`, or a file cannot be written.
        """
        entry = Entry(key, {path.name: digest_of(path) for path in made}, False, row)
        with self._turn():
            for name in entry.files:
                self.free(case, name)
            before = _entries(self.out, case)
            # What was there before stays in the record until its files are replaced.
            self._write(case, [*before, entry])
            try:
                for path in made:
                    path.replace(self.out / path.name)
            except OSError as error:
                raise UserError(
                    f"results cannot be moved into {self.out}: {error.strerror or error}. Can it "
                    "be written?"
                ) from error
            self._write(case, [*_without(before, entry), replace(entry, done=True)])
            self._forget(case, entry)
        self.done.append(row)

    def pass_over(self, row: dict[str, Any]) -> None:
        """Add the row of an input whose results were made by an earlier call."""
        self.done.append(row)

    def merge(self, tried: Iterable[str] = (), now: bool = True) -> None:
        """Write `predictions.json` from the records of all calls.

        Args:
            tried: inputs of this call that have been segmented, or have failed.
            now: whether to write it in any case; else only if the last time was long ago.
        """
        self._tried.update(tried)
        wait = max(_SECONDS_BETWEEN_MERGES, self._merging / _SHARE_OF_MERGES)
        began = time.monotonic()
        if not now and began - self._merged < wait:
            return
        with self._turn():
            before = _read(self.out / _MERGED)
            entries = [e for found in _all_entries(self.out).values() for e in found]
            rows = _rows(entries, self.out)
            inputs = {str(row.get("input")) for row in rows} | self._tried
            failed = {
                name: message
                for name, message in dict(before.get("failed") or {}).items()
                if name not in inputs and os.path.exists(name)  # noqa: PTH110 (it never raises)
            }
            content = {
                "version": __version__,
                "predictions": rows,
                "failed": failed | self.failed,
            }
            write_json(self.out / _MERGED, content)
        self._merged = time.monotonic()
        self._merging = self._merged - began

    def _ours(self, case: str, path: Path) -> bool:
        """Whether a file was written by a prediction: by this case's, or by any other's."""
        if any(entry.owns(path) for entry in _entries(self.out, case)):
            return True
        for _ in range(2):  # again with what other calls have written in the meantime
            found = [e for entries in self._known.values() for e in entries]
            if any(entry.owns(path) for entry in found):
                return True
            self._known = _all_entries(self.out)
        return False

    def _forget(self, case: str, entry: Entry) -> None:
        """Take from the records of other cases what this entry has replaced."""
        for other, entries in self._known.items():
            if other not in ("", case) and _without(entries, entry) != entries:
                self._write(other, _without(_entries(self.out, other), entry))

    def _turn(self) -> AbstractContextManager[None]:
        return taking_turns(self.out / _HOME / "lock")

    def _write(self, case: str, entries: Sequence[Entry]) -> None:
        content = {"results": [asdict(entry) for entry in entries]}
        write_json(self.out / _HOME / "records" / f"{case}.json", content)


def earlier_results(folder: Path) -> list[str]:
    """Names of the files that earlier predictions wrote into a folder."""
    if not folder.is_dir():
        return []
    found = _all_entries(folder).values()
    return sorted({name for entries in found for entry in entries for name in entry.files})


def _without(entries: Sequence[Entry], newer: Entry) -> list[Entry]:
    """Entries without the files that a newer one has replaced."""
    left = [entry.without(newer.files) for entry in entries]
    return [entry for entry in left if entry.files]


def _unsure(entries: Sequence[Entry]) -> set[str]:
    """Names of the files that a call may have replaced before it was killed."""
    return {name for entry in entries if not entry.done for name in entry.files}


def _rows(entries: Sequence[Entry], out: Path) -> list[dict[str, Any]]:
    """Rows of the entries whose files are in their place."""
    rows = []
    unsure, listed = _unsure(entries), set[str]()
    for entry in sorted(entries, key=lambda entry: entry.done):
        if listed.isdisjoint(entry.files) and entry.whole(out, unsure):
            rows.append(entry.row)
            listed |= set(entry.files)
    return sorted(rows, key=lambda row: str(row.get("input")))


def _all_entries(out: Path) -> dict[str, list[Entry]]:
    """Entries of all records of a folder by the name of the record.

    Under the empty name are those of `predictions.json` that no record has: earlier versions wrote
    no records.
    """
    cases = sorted((out / _HOME / "records").glob("*.json"))
    found = {path.name[: -len(".json")]: _entries_of(path) for path in cases}
    recorded = {name for entries in found.values() for entry in entries for name in entry.files}
    rows = _read(out / _MERGED).get("predictions", [])
    older = [
        Entry("", dict.fromkeys(_results(row), ""), True, row)
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]
    left = [entry.without(recorded) for entry in older]
    return {"": [entry for entry in left if entry.files], **found}


def _entries(out: Path, case: str) -> list[Entry]:
    return _entries_of(out / _HOME / "records" / f"{case}.json")


def _entries_of(path: Path) -> list[Entry]:
    """Entries of a record; none if it is missing or was not written by cDAL."""
    try:
        return [
            Entry(str(e["key"]), dict(e["files"]), e["done"] is True, dict(e["row"]))
            for e in _read(path).get("results", [])
        ]
    except (KeyError, TypeError, ValueError):
        return []


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _results(row: Mapping[str, Any]) -> list[str]:
    """Names of the files in a row."""
    return [str(row[kind]) for kind in OUTPUTS if kind in row]
