"""What the preparers of public sets share."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cdal.runtime.errors import UserError
from cdal.runtime.events import Report


@dataclass(frozen=True)
class Prepared:
    """What a preparer did.

    Attributes:
        cases: how many were written.
        complete: how many the whole set has.
        left_out: a reason for each file that was set aside.
        notes: what else is worth knowing.
    """

    cases: int
    complete: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Attributes:
        name: as in `cdal data prepare NAME`; there is a recipe of the same name.
        title: in full.
        about: what it holds, in a line.
        where: where its owners give it out.
        licence: under which.
        citation: what to cite.
        prepare: `(source, folder, report) -> Prepared`.
        address: of an archive that does not move.
        checksum: of that archive, as pooch writes it, `md5:...`.
    """

    name: str
    title: str
    about: str
    where: str
    licence: str
    citation: str
    prepare: Callable[[Path, Path, Report], Prepared]
    address: str = ""
    checksum: str = ""


def download(public: PublicSet, folder: Path) -> Path:
    """Fetch and unpack a set's archive; a download that broke off or was changed on its way is refused.

    Raises:
        UserError: the set has no stable address, or the archive cannot be had.
    """
    import pooch

    if not public.address:
        raise UserError(f"{public.name} has no address that can be downloaded without its owners' pages. {public.where}")
    try:
        pooch.retrieve(public.address, public.checksum, fname="archive.tar", path=folder, progressbar=False)
        with tarfile.open(folder / "archive.tar") as archive:
            archive.extractall(folder / "source", filter="data")
    except (OSError, ValueError, tarfile.TarError) as error:
        raise UserError(f"{public.address} cannot be downloaded: {error}. Fetch it by hand: {public.where}") from error
    return folder / "source"


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes, and make the folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def describe(folder: Path, public: PublicSet, labels: Mapping[str, int], rows: Iterable[Mapping[str, str]] = ()) -> None:
    """Write `dataset.json`, and `cases.csv` where there are rows."""
    declared = {
        "name": public.name,
        "description": public.title,
        "labels": dict(labels),
        "licence": public.licence,
        "reference": public.citation,
    }
    (folder / "dataset.json").write_text(json.dumps(declared, indent=1) + "\n", encoding="utf-8")
    rows = list(rows)
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        (folder / "cases.csv").write_text(text.getvalue(), encoding="utf-8")


def digest(array: np.ndarray) -> str:
    """A checksum of an image's shape and numbers, whatever format they are stored in."""
    whole = np.ascontiguousarray(np.round(array).astype("<i4"))
    return hashlib.sha256(repr(whole.shape).encode() + whole.tobytes()).hexdigest()[:16]


def known_digests(name: str) -> dict[str, Any]:
    """The checksums of a set's images, by case."""
    return dict(json.loads(resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")))


def need_some(found: Sequence[Any] | Mapping[Any, Any], source: Path, expected: str) -> None:
    """Refuse a source without any of the set's files.

    Raises:
        UserError: says what was expected.
    """
    if not found:
        names = ", ".join(sorted(p.name for p in source.iterdir())[:8]) or "nothing"
        raise UserError(f"{source}: expected {expected}; it holds {names}.")
