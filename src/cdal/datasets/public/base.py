"""Code shared by the conversions of public data sets."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from cdal.datasets.public.archive import unpack
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report


@dataclass(frozen=True)
class Prepared:
    """Result of converting a public data set.

    Attributes:
        cases: number of cases written.
        complete: number of cases in the complete set.
        left_out: reason for each file that was skipped.
        notes: further remarks.
    """

    cases: int
    complete: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Attributes:
        name: name used by `cdal data prepare NAME`; a shipped recipe has the same name.
        title: full title.
        about: contents, in one line.
        where: where its owners distribute it.
        licence: licence of the set.
        citation: publications to cite.
        prepare: function `(source, folder, report) -> Prepared` that writes the data folder.
        address: stable address of an archive, or an empty string.
        checksum: checksum of that archive in pooch's format, `md5:...`.
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


def download(public: PublicSet, folder: Path, target: Path) -> Path:
    """Download and unpack the archive of a set; incomplete or altered downloads are refused.

    Args:
        public: the set.
        folder: folder for the files.
        target: data folder that is wanted, for the message.

    Returns:
        The folder of the unpacked files.

    Raises:
        UserError: the set has no stable address, or the archive cannot be downloaded.
    """
    import pooch
    import requests

    if not public.address:
        raise UserError(
            f"{public.name} has no address that can be downloaded without its owners' pages. "
            f"{public.where}"
        )
    try:
        pooch.retrieve(
            public.address, public.checksum, fname="archive.tar", path=folder, progressbar=False
        )
        unpack(folder / "archive.tar", folder / "source")
    except (OSError, ValueError, UserError) as error:
        address = urlsplit(public.address)
        lost = isinstance(error, (requests.ConnectionError, requests.Timeout))
        lost = lost and not isinstance(error, requests.exceptions.SSLError)
        why = f"no connection to {address.hostname}" if lost else error
        raise UserError(
            f"{public.address} cannot be downloaded: {why}. Fetch it by hand, there or from "
            f"{public.where}; then: cdal data prepare {public.name} "
            f"{PurePosixPath(address.path).name} {target}"
        ) from error
    return folder / "source"


def copy(source: Path, target: Path) -> None:
    """Copy a file byte by byte, creating the target's folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def describe(
    folder: Path,
    public: PublicSet,
    labels: Mapping[str, int],
    rows: Iterable[Mapping[str, str]] = (),
) -> None:
    """Write `dataset.json`, and `cases.csv` if there are rows."""
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
    """Return a checksum of shape and rounded values that does not depend on the file format."""
    whole = np.ascontiguousarray(np.round(array).astype("<i4"))
    return hashlib.sha256(repr(whole.shape).encode() + whole.tobytes()).hexdigest()[:16]


def known_digests(name: str) -> dict[str, Any]:
    """Return the checksums of a set's images, by case."""
    return dict(
        json.loads(
            resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")
        )
    )


def need_some(found: Sequence[Any] | Mapping[Any, Any], source: Path, expected: str) -> None:
    """Raise an error if none of the set's files were found in a source.

    Raises:
        UserError: nothing was found; the message describes the expected files.
    """
    if not found:
        names = ", ".join(sorted(p.name for p in source.iterdir())[:8]) or "nothing"
        raise UserError(f"{source}: expected {expected}; it holds {names}.")
