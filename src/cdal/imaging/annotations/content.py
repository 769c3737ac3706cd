"""Reading JSON and XML of unknown origin."""

from __future__ import annotations

import gzip
import json
import mmap
import re
import xml.etree.ElementTree as ElementTree  # the parser resolves no external entities
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from cdal.runtime.errors import UserError

MOST_BYTES = 2**29
"""Largest file, in bytes after decompression. Its content needs up to twenty times as much."""

_T = TypeVar("_T")


def matches(path: Path, pattern: bytes) -> bool:
    """Whether a regular expression occurs in a file, which is not read into memory."""
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return re.search(pattern, content) is not None
        except ValueError:  # an empty file cannot be mapped
            return False


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is empty or too large. Damaged files raise what the parser raises.
    """
    return json.loads(_bytes_of(path).decode("utf-8-sig"))


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file, `.xml` or `.xml.gz`.

    Raises:
        UserError: the file is empty or too large, or declares entities, of which a few lines can
            make gigabytes. Damaged files raise what the parser raises.
    """
    content = _bytes_of(path)
    if b"\0" in content[:64]:
        content = content.decode("utf-16").encode("utf-8")
        content = re.sub(rb"^(\xef\xbb\xbf)?\s*<\?xml.*?\?>", b"", content, count=1)
    if re.search(rb"<!(DOCTYPE|ENTITY)", content, re.IGNORECASE):
        raise UserError(
            f"{path}: expected XML without declarations of its own (DOCTYPE, ENTITY). Remove them."
        )
    return ElementTree.fromstring(content)  # noqa: S314 (no entities are left to expand)


def remembered(function: Callable[[Path], _T]) -> Callable[[Path], _T]:
    """Decorate a function of a file such that its last result is kept while the file is the same.

    A shared file would otherwise be parsed for each of its images.
    """

    @lru_cache(maxsize=1)
    def kept(path: Path, modified: int, size: int) -> _T:
        return function(path)

    def of_file(path: Path) -> _T:
        about = path.stat()
        return kept(path, about.st_mtime_ns, about.st_size)

    return of_file


def _bytes_of(path: Path) -> bytes:
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{path}: expected at most {MOST_BYTES / 2**20:.0f} MB; it is larger. Split it into "
            "files of single images, or convert it to label images."
        )
    if not content.strip():
        raise UserError(f"{path} is empty. Export it again.")
    return bytes(content)
