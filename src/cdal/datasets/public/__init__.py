"""The public data sets of the paper: sources, licences, and conversion to data folders."""

from __future__ import annotations

import difflib
from pathlib import Path

from cdal.datasets.public import cxr, hippocampus, monuseg
from cdal.datasets.public.archive import unpack
from cdal.datasets.public.base import Prepared, PublicSet, download
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report, silent
from cdal.runtime.files import new_folder

__all__ = ["PUBLIC_SETS", "Prepared", "PublicSet", "find_set", "prepare"]

PUBLIC_SETS: dict[str, PublicSet] = {
    public.name: public for public in (hippocampus.SET, monuseg.SET, cxr.SET)
}


def find_set(name: str) -> PublicSet:
    """Return the public set with the given name.

    Raises:
        UserError: there is no such set.
    """
    if name not in PUBLIC_SETS:
        close = difflib.get_close_matches(name, PUBLIC_SETS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"no public set {name!r}.{hint} There are: {', '.join(PUBLIC_SETS)}.")
    return PUBLIC_SETS[name]


def prepare(
    name: str,
    source: Path | str,
    target: Path | str,
    report: Report = silent,
) -> Prepared:
    """Convert the original files of a public set to a data folder.

    Args:
        name: name of the set.
        source: folder or archive with the original files; or the word `download`, if the set has a
            stable address.
        target: path of the data folder, which must be missing or empty. It is written completely or
            not at all.
        report: function that receives an event for each case.

    Raises:
        UserError: the source does not contain the set's files, or the target is not empty or cannot
            be written.
    """
    public, target = find_set(name), Path(target)
    with new_folder(target) as folder:
        scratch = folder.parent
        files = (
            download(public, scratch, target)
            if str(source) == "download"
            else _unpacked(Path(source), scratch)
        )
        return public.prepare(files, folder, report)


def _unpacked(source: Path, scratch: Path) -> Path:
    """Return the source if it is a folder, otherwise the folder of the unpacked archive."""
    if source.is_dir():
        return source
    if not source.is_file():
        raise UserError(
            f"{source}: no such folder or archive. Give the owners' files, see `cdal data list`."
        )
    unpack(source, scratch / "source")
    return scratch / "source"
