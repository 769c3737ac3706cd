"""What a record holds: the results of the inputs of one name, and what failed of them.

A record is the file `.cdal/records/NAME.json`. All results that can be called `NAME_kind` are in
it, so no other record has to be read to know whose a file is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cdal.imaging.formats import stem_of
from cdal.inference.outputs import OUTPUTS
from cdal.runtime.files import digest_of, read_object, scratch_folder, write_json
from cdal.runtime.os_errors import is_no_file

MERGED = "predictions.json"
HOME = ".cdal"
RECORDS = "records"


def place_of(path: str) -> str:
    """The absolute path of an input, whose links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100 (follows none)


@dataclass(frozen=True)
class Entry:
    """Results of one input, made by one call.

    Attributes:
        key: what decides the results, as a checksum; empty if that is not known.
        files: checksum of each file by its name.
        done: whether the files are known to be in their place.
        row: row of `predictions.json`.
        source: absolute path of the input; empty if that is not known.
    """

    key: str
    files: Mapping[str, str]
    done: bool
    row: dict[str, Any]
    source: str = ""

    def is_of(self, path: str, series: str, digest: str) -> bool:
        """Whether it is of this input: of this place, or of the same bytes, which were moved.

        Args:
            path: the input.
            series: SeriesInstanceUID if it is a folder, which may hold several series; else empty.
            digest: checksum of its bytes; empty if that is not known.
        """
        if "input" not in self.row:
            return True
        same_path = (self.source or place_of(str(self.row["input"]))) == place_of(path)
        same_series = self.row.get("series", series) == series
        return (same_path and same_series) or self.row.get("input_digest") == digest != ""

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
        return replace(self, key="", files=files, row=row)


@dataclass(frozen=True)
class Failure:
    """Why an input has no results.

    Attributes:
        input: the input.
        message: message for the user.
        key: what decides the results; empty if that is not known.
        deaths: workers that died with it.
        call: the call that tried it, see `cdal.inference.record.Record`.
    """

    input: str
    message: str
    key: str = ""
    deaths: int = 0
    call: str = ""

    def stands(self, call: str) -> bool:
        """Whether it is to be told: in its own call, and as long as its input is there."""
        return (self.call == call != "") or os.path.exists(self.input)  # noqa: PTH110 (never raises)


@dataclass(frozen=True)
class Entries:
    """Content of a record.

    Attributes:
        results: what was made.
        failed: what was not.
    """

    results: list[Entry] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    @property
    def unsure(self) -> set[str]:
        """Names of the files that a call may have replaced before it was killed."""
        return {name for entry in self.results if not entry.done for name in entry.files}

    def without(self, newer: Entry) -> list[Entry]:
        """The results without the files that a newer one has replaced."""
        left = [entry.without(newer.files) for entry in self.results]
        return [entry for entry in left if entry.files]

    def settled(self, newer: Entry) -> Entries:
        """What is recorded when all files of a result are in their place."""
        failed = self.but(str(newer.row.get("input")))
        return Entries([*self.without(newer), replace(newer, done=True)], failed)

    def but(self, path: str) -> list[Failure]:
        """The failures of other inputs than this one."""
        return [failure for failure in self.failed if failure.input != path]

    def rows(self, out: Path) -> list[dict[str, Any]]:
        """Rows of the results whose files are in their place."""
        rows = []
        unsure, listed = self.unsure, set[str]()
        for entry in sorted(self.results, key=lambda entry: entry.done):
            if listed.isdisjoint(entry.files) and entry.whole(out, unsure):
                rows.append(entry.row)
                listed |= set(entry.files)
        return sorted(rows, key=lambda row: str(row.get("input")))


def read_entries(out: Path, name: str) -> Entries:
    """The record of a name; empty if it is missing or was not written by cDAL."""
    content = read_object(_file(out, name))
    try:
        return Entries(
            [
                Entry(
                    str(e["key"]),
                    dict(e["files"]),
                    e["done"] is True,
                    dict(e["row"]),
                    str(e.get("source", "")),
                )
                for e in content.get("results", [])
            ],
            [Failure(**failure) for failure in content.get("failed", [])],
        )
    except (KeyError, TypeError, ValueError):
        return Entries()


def write_entries(out: Path, name: str, entries: Entries) -> None:
    """Write the record of a name; errors are those of `cdal.runtime.files.write_json`."""
    write_json(_file(out, name), asdict(entries))


def recorded_names(out: Path) -> list[str]:
    """Names of all records of a folder, in order; an OSError if they cannot be listed."""
    try:
        with os.scandir(out / HOME / RECORDS) as found:
            names = [entry.name for entry in found if not entry.name.startswith(".cdal-")]
    except OSError as error:
        if not is_no_file(error):
            raise
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def name_of(file: str) -> str:
    """The name in the name of a result, `NAME_kind.suffix`."""
    return file.rpartition("_")[0]


def is_recorded(out: Path) -> bool:
    """Whether a folder has records; versions before them wrote `predictions.json` alone."""
    return (out / HOME / RECORDS).is_dir()


def unrecorded(out: Path) -> Iterator[tuple[str, Entries]]:
    """What `predictions.json` lists in a folder without records, by the names of records."""
    content, found = read_object(out / MERGED), dict[str, Entries]()
    rows, failed = content.get("predictions"), content.get("failed")
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        files = [str(row[kind]) for kind in OUTPUTS if kind in row]
        if files:
            entry = Entry("", dict.fromkeys(files, ""), True, row)
            found.setdefault(name_of(files[0]), Entries()).results.append(entry)
    for path, message in failed.items() if isinstance(failed, dict) else []:
        failure = Failure(str(path), str(message))
        found.setdefault(stem_of(Path(path)), Entries()).failed.append(failure)
    yield from found.items()


def record_the_unrecorded(out: Path) -> None:
    """Make the folder of records, with what `predictions.json` lists; all at once or not at all."""
    with scratch_folder(out / HOME / "tmp") as scratch:
        (scratch / HOME / RECORDS).mkdir(parents=True)
        for name, entries in unrecorded(out):
            write_entries(scratch, name, entries)
        (scratch / HOME / RECORDS).rename(out / HOME / RECORDS)


def _file(out: Path, name: str) -> Path:
    return out / HOME / RECORDS / f"{name}.json"
