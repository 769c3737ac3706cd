"""The folder of small pictures beside a page.

A picture is a JPEG of some kB, whose comment says what it shows and, as a checksum, what it was
drawn from. It is drawn again only if one of its files has changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from cdal.evaluation.review.cases import Case
from cdal.evaluation.review.opening import Files, GoneError, files_of
from cdal.evaluation.review.views import draw_view
from cdal.imaging.formats import DICOM, suffix_of
from cdal.imaging.formats.dicom_series import dicom_files
from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded
from cdal.runtime.memory import is_shortage
from cdal.runtime.text import printable

_VERSION = 1
"""Part of the checksum, to be raised when pictures are drawn in another way."""

_QUALITY = 80
_NAME = re.compile(r"[0-9a-f]{16}\.jpg")
_IN_HEADER = (
    "The DICOM files cannot be drawn. The reason is not repeated here, because it may hold what "
    "their headers say; cdal review prints it."
)


@dataclass(frozen=True)
class Thumbnail:
    """The picture of a case.

    Attributes:
        name: file name; empty if there is no picture.
        caption: what it shows, or why there is none.
        size: width and height in pixels.
        map: whether the uncertainty is beside the image.
        kept: whether it was there before.
        problem: why there is no picture, for the terminal.
        gone: whether that is because a file of the case is missing.
    """

    name: str
    caption: str
    size: tuple[int, int] = (0, 0)
    map: bool = False
    kept: bool = False
    problem: str = ""
    gone: bool = False


def make_thumbnail(case: Case, results: Path, folder: Path) -> Thumbnail:
    """Draw the picture of a case, unless it is there and its files have not changed.

    Args:
        case: the case.
        results: folder of the results.
        folder: folder of the pictures.

    Raises:
        UserError: the picture cannot be written. Files that cannot be read raise nothing: then
            there is no picture, and the caption says why.
    """
    identity = json.dumps([case.source, sorted(case.files.items())])
    name = hashlib.sha256(identity.encode()).hexdigest()[:16] + ".jpg"
    try:
        files = files_of(case, results)
        key = _key(files)
        if (kept := _kept(folder / name, key)) is not None:
            return kept
        picture, caption = draw_view(files)
    except Exception as error:  # no case may stop the others
        problem = _explained(case.source, error)
        gone = isinstance(error, GoneError)
        private = not gone and holds_header(Path(case.source))
        return Thumbnail("", _IN_HEADER if private else problem, problem=problem, gone=gone)
    with_map = files.uncertainty is not None
    content = json.dumps({"key": key, "caption": caption, "map": with_map})
    with encoded(folder / name) as buffer:
        picture.save(
            buffer,
            format="JPEG",
            quality=_QUALITY,
            subsampling=0,  # else outlines of one pixel lose their colour
            optimize=True,
            comment=content.encode("ascii"),
        )
    return Thumbnail(name, caption, picture.size, with_map)


def remove_others(folder: Path, names: Collection[str]) -> None:
    """Delete the pictures of cases that are no longer among the results."""
    for path in folder.glob("*.jpg"):
        if _NAME.fullmatch(path.name) and path.name not in names and _comment(path):
            path.unlink(missing_ok=True)


def holds_header(source: Path) -> bool:
    """Whether a path is, or may be, that of DICOM, whose readers quote its header in errors."""
    try:
        return suffix_of(source) in (None, *DICOM.suffixes) or source.is_dir()
    except (OSError, ValueError):
        return True


def _key(files: Files) -> str:
    """Checksum of what decides a picture: sizes and times of its files."""
    images = list(dicom_files(files.image)) if files.image.is_dir() else [files.image]
    parts = [path for path in (*images, files.mask, files.uncertainty) if path is not None]
    about = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in parts]
    content = json.dumps([_VERSION, files.classes, files.mask is None, about])
    return hashlib.sha256(content.encode()).hexdigest()


def _kept(path: Path, key: str) -> Thumbnail | None:
    """The picture that an earlier call has drawn from the same files, if there is one."""
    about = _comment(path)
    if about is None or about["key"] != key:
        return None
    return Thumbnail(path.name, about["caption"], about["size"], about["map"], kept=True)


def _comment(path: Path) -> dict[str, Any] | None:
    """What the comment of a picture says; `None` if it is none of ours."""
    try:
        with Pillow.open(path, formats=["JPEG"]) as file:
            about = json.loads(file.info.get("comment", b""))
            return {
                "key": str(about["key"]),
                "caption": str(about["caption"]),
                "map": bool(about["map"]),
                "size": file.size,
            }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _explained(source: str, error: Exception) -> str:
    if isinstance(error, UserError):
        text = str(error)
    elif is_shortage(error):
        text = "There is not enough memory to draw it."
    else:
        text = f"{source} cannot be drawn: {type(error).__name__}: {error}"
    return printable(text)
