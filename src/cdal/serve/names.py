"""Names that clients give, made safe for a file: they are never paths."""

from __future__ import annotations

import re
import unicodedata

from cdal.imaging.formats import SUFFIXES

_OTHERS = re.compile(r"[^\w. ()+-]")
"""What is not a letter or digit of any script, nor one of these signs."""

_LONGEST = 120
"""Most bytes of a name; results add some to it, and file systems take 255."""


def safe_name(name: str, otherwise: str = "image") -> str:
    """A name for a file, from any text.

    Ordinary names stay as they are, as the draws of a prediction depend on them. Folders are cut
    off, unusual characters become `_`, and names that are too long lose their middle.

    Args:
        name: what the client calls its file.
        otherwise: name for a text of which nothing is left.
    """
    base = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    base = _OTHERS.sub("_", base).strip(" ").lstrip(".-")
    suffix = next((known for known in SUFFIXES if base.lower().endswith(known)), "")
    end = base[len(base) - len(suffix) :]
    stem = base[: len(base) - len(suffix)]
    while len(f"{stem}{end}".encode()) > _LONGEST:
        stem = stem[:-1]
    return f"{stem or otherwise}{end}" if stem or end else otherwise


def folder_name(name: str) -> str:
    """The folder in a name that a browser gives a file of a dropped folder; empty if none."""
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
    return safe_name(parts[-2], "series") if len(parts) > 1 else ""
