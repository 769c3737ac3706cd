"""Images of any size opened: in memory, or some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdal.imaging.formats import format_of, read_image
from cdal.imaging.rows import Rows


@contextmanager
def open_image(path: Path, scratch: Path | None = None) -> Iterator[Rows]:
    """The image of a file, or of the DICOM series in a folder: a large picture on disk if its format allows it, else in memory.

    Args:
        path: of the file or folder.
        scratch: a folder for what can only be decoded in one piece; a temporary one if `None`.

    Raises:
        UserError: as `read_image`; or the file needs an extra that is not installed.
    """
    found = format_of(path) if path.is_file() else None
    if found is None:
        yield read_image(path)
        return
    with found.open_rows(path, scratch) as rows:
        yield read_image(path) if rows is None else rows
