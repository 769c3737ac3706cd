"""How the results in a folder were made: a record for each name of results, and `predictions.json`.

A record is written before the results of a case are moved to their place, and again afterwards.
Whatever kills a process in between, the next call knows its files. Several processes may write into
one folder: they take turns to write the records of a name and to move its results. A record is all
that has to be read to write another, so nothing grows with the folder.
"""

from __future__ import annotations

import json
import tempfile
import time
import zlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdal.imaging.formats import stem_of, suffix_of
from cdal.inference.entries import (
    HOME,
    MERGED,
    RECORDS,
    Entries,
    Entry,
    Failure,
    is_recorded,
    name_of,
    place_of,
    read_entries,
    record_the_unrecorded,
    recorded_names,
    unrecorded,
    write_entries,
)
from cdal.runtime.errors import UserError
from cdal.runtime.files import (
    BusyError,
    digest_of,
    replacing,
    scratch_folder,
    sweep,
    taking_turns,
)
from cdal.runtime.version import __version__

_SECONDS_BETWEEN_MERGES, _SHARE_OF_MERGES = 30.0, 0.02
_TMP = "tmp"
_LOCKS = 64
"""Names are shared out to so many locks, so that workers seldom wait for each other."""

_LONGEST_MERGE = 3600.0
"""Seconds to wait for others that write `predictions.json`."""


def sweep_results(out: Path) -> None:
    """Delete what killed calls have left in a folder of results."""
    for folder in (out, out / HOME / _TMP, out / HOME / RECORDS):
        sweep(folder)


class Record:
    """The records of a folder, and one call that writes into it.

    Args:
        out: folder of the results.
        call: what tells this call from others. Those that share the inputs have the same.

    Attributes:
        rows: number of rows of `predictions.json` when it was merged last.
    """

    def __init__(self, out: Path, call: str = "") -> None:
        self.out, self.call, self.rows = out, call, 0
        self._taken: set[str] = set()
        self._merged = self._merging = 0.0

    def begin(self, paths: Iterable[Path | str] = ()) -> None:
        """Make the folder ready, and forget that paths held no image, which may have changed.

        Args:
            paths: what the call was given.

        Raises:
            UserError: it cannot be written; so it is known before the work, and not after it.
        """
        with scratch_folder(self.out):
            pass
        sweep_results(self.out)  # a call that finds all done writes nothing
        if not is_recorded(self.out):
            with taking_turns(self.out / HOME / "lock"):
                if not is_recorded(self.out):
                    record_the_unrecorded(self.out)
        for path in paths:
            self.clear(stem_of(Path(path)), str(path))

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder for what is being made, on the disk of the results."""
        return scratch_folder(self.out / HOME / _TMP)

    def finished(self, name: str, key: str) -> dict[str, Any] | None:
        """The row of an input whose results were made before; `None` if there are none.

        Args:
            name: name of the results.
            key: what decides the results, see `Entry`.
        """
        entries = read_entries(self.out, name) if key else Entries()
        whole = (e for e in entries.results if e.key == key and e.whole(self.out, entries.unsure))
        entry = next(whole, None)
        if entry is None:
            return None
        self._taken.update(entry.files)
        path = str(entry.row.get("input"))
        if not entry.done or any(failure.input == path for failure in entries.failed):
            self._settle(name, entry)
        return entry.row

    def given_up(self, name: str, key: str) -> str:
        """Message of an input with which too many workers have died; empty if it may be tried."""
        failed = read_entries(self.out, name).failed if key else []
        return next((f.message for f in failed if f.key == key and f.deaths > 1), "")

    def free(self, name: str, file: str) -> Path:
        """Path of a result.

        Args:
            name: name of the results.
            file: name of the file, which begins with it.

        Raises:
            UserError: another input has this result, or a file of this name exists that no
                prediction wrote.
        """
        path = self.out / file
        if file in self._taken:
            raise UserError(
                f"{path} is the result of another input of this call. Predict them into two "
                "folders, or list them in a table with names."
            )
        try:
            exists = path.exists() or path.is_symlink()
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror}. Give the input a shorter name."
            ) from error
        if exists and not any(entry.owns(path) for entry in read_entries(self.out, name).results):
            raise UserError(
                f"{path} is there and was not made by a prediction; it is kept. Give another --out."
            )
        return path

    def need_alone(
        self, name: str, path: str, series: str, digest: str, files: Collection[str]
    ) -> None:
        """Refuse an input if the folder has results of another one of its name.

        The same input may have changed, and its results are then replaced. Inputs of two formats
        stand side by side, unless they share a file. Kinds of results that nobody replaces are no
        obstacle to an input that has results.

        Args:
            name: name of the results.
            path: the input.
            series: SeriesInstanceUID, see `Entry.is_of`.
            digest: checksum of its bytes; empty if that is not known.
            files: names of its results.

        Raises:
            UserError: there are such results.
        """
        results = read_entries(self.out, name).results
        others = [entry for entry in results if not entry.is_of(path, series, digest)]
        known = len(others) < len(results)
        for entry in others:
            other = str(entry.row.get("input"))
            alike = not known and suffix_of(Path(other)) == suffix_of(Path(path))
            if not (alike or any(file in entry.files for file in files)):
                continue
            if any(entry.owns(self.out / file) for file in entry.files):
                where = entry.source or place_of(other)
                if where == place_of(path):
                    other = f"series {entry.row.get('series')} of this folder"
                elif other == path:
                    other = where
                raise UserError(
                    f"{path} would share the name {name} of its results with another image, "
                    f"{other}, whose results are in {self.out}; they are kept. Give another --out, "
                    "or list it in a table that gives it a name of its own, in the column name."
                )

    def add(self, name: str, key: str, row: dict[str, Any], made: Sequence[Path]) -> None:
        """Move the results of an input to their place, and add its row.

        Args:
            name: name of the results.
            key: what decides the results, see `Entry`.
            row: row of `predictions.json`, with `input` and perhaps `series` and `input_digest`.
            made: files with the names of the results, in another folder of the same disk.

        Raises:
            UserError: as `free` and `need_alone`, or a file cannot be written.
        """
        source = str(row["input"])
        series, digest = str(row.get("series", "")), str(row.get("input_digest", ""))
        files = {path.name: digest_of(path) for path in made}
        entry = Entry(key, files, False, row, place_of(source))
        with self._turn(name):
            self.need_alone(name, source, series, digest, entry.files)
            for file in entry.files:
                self.free(name, file)
            before = read_entries(self.out, name)
            # What was there before stays in the record until its files are replaced.
            write_entries(self.out, name, replace(before, results=[*before.results, entry]))
            try:
                for path in made:
                    path.replace(self.out / path.name)
            except OSError as error:
                raise UserError(
                    f"results cannot be moved into {self.out}: {error.strerror or error}. Can it "
                    "be written?"
                ) from error
            write_entries(self.out, name, before.settled(entry))
        self._taken.update(entry.files)

    def _settle(self, name: str, entry: Entry) -> None:
        """Record that all files of results are in their place, which a killed call did not."""
        with self._turn(name):
            before = read_entries(self.out, name)
            if entry.whole(self.out, before.unsure):  # else another call has replaced them
                write_entries(self.out, name, before.settled(entry))

    def fail(self, name: str, path: str, message: str, key: str = "", deaths: int = 0) -> None:
        """Record why an input has no results, in the place of an earlier reason.

        Args:
            name: name of the results it would have.
            path: the input.
            message: message for the user.
            key: what decides the results, see `Entry`.
            deaths: workers that died with it.
        """
        failure = Failure(path, message, key, deaths, self.call)
        with self._turn(name):
            before = read_entries(self.out, name)
            write_entries(self.out, name, Entries(before.results, [*before.but(path), failure]))

    def failed(self, name: str, path: str) -> bool:
        """Whether an input is recorded as one that has failed."""
        return any(failure.input == path for failure in read_entries(self.out, name).failed)

    def clear(self, name: str, path: str) -> None:
        """Forget that an input has failed."""
        if self.failed(name, path):
            with self._turn(name):
                before = read_entries(self.out, name)
                write_entries(self.out, name, replace(before, failed=before.but(path)))

    def merge(self, now: bool = True) -> None:
        """Write `predictions.json` from the records of all calls, one after the other.

        Args:
            now: whether to write it in any case; else only if the last time was long ago, and if no
                other process does.
        """
        wait = max(_SECONDS_BETWEEN_MERGES, self._merging / _SHARE_OF_MERGES)
        began = time.monotonic()
        if not now and began - self._merged < wait:
            return
        try:
            with taking_turns(self.out / HOME / "merge.lock", _LONGEST_MERGE if now else 0.0):
                self.rows = self._write_merged()
        except BusyError:
            if now:
                raise
            return
        self._merged = time.monotonic()
        self._merging = self._merged - began

    def _write_merged(self) -> int:
        count = failures = 0
        with (
            replacing(self.out / MERGED) as temporary,
            temporary.open("w", encoding="utf-8") as file,
            tempfile.TemporaryFile("w+", encoding="utf-8") as failed,
        ):
            file.write(f'{{\n "version": {json.dumps(__version__)},\n "predictions": [')
            for name in recorded_names(self.out):
                entries = read_entries(self.out, name)
                for row in entries.rows(self.out):
                    text = json.dumps(row, indent=1).replace("\n", "\n  ")
                    file.write(f"{',' if count else ''}\n  {text}")
                    count += 1
                for failure in entries.failed:
                    if failure.stands(self.call):
                        message = f"{json.dumps(failure.input)}: {json.dumps(failure.message)}"
                        failed.write(f"{',' if failures else ''}\n  {message}")
                        failures += 1
            file.write('\n ],\n "failed": {' if count else '],\n "failed": {')
            failed.seek(0)
            while block := failed.read(2**20):
                file.write(block)
            file.write("\n }\n}\n" if failures else "}\n}\n")
        return count

    def _turn(self, name: str) -> AbstractContextManager[None]:
        number = zlib.crc32(name.encode("utf-8", "surrogateescape")) % _LOCKS
        return taking_turns(self.out / HOME / "locks" / f"{number:02d}")


class ResultsOf:
    """The names of the files that earlier predictions wrote into folders, looked up one by one."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder for folder in folders if is_recorded(folder)]
        self._older = {
            file
            for folder in folders
            if not is_recorded(folder)
            for _, entries in unrecorded(folder)
            for entry in entries.results
            for file in entry.files
        }

    def __contains__(self, file: object) -> bool:
        """Whether a file of this name is such a result."""
        name = name_of(str(file))
        return file in self._older or (
            bool(name)
            and any(
                file in entry.files
                for folder in self._folders
                for entry in read_entries(folder, name).results
            )
        )
