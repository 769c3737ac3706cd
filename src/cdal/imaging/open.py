"""Opening images of any size, in memory or a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdal.imaging.formats import format_of, read_image, read_label, suffix_of
from cdal.imaging.rows import Rows


@contextmanager
def open_image(path: Path, scratch: Path | None = None, fourth_axis: int = 0) -> Iterator[Rows]:
    """Open the image of a file, or of the DICOM series in a folder.

    Large pictures stay on disk if their format allows it; other images are read into memory.

    Args:
        path: path of the file or folder.
        scratch: folder for decoded data if a large picture can only be decoded in one piece; a
            temporary folder if `None`.
        fourth_axis: number of channels that a fourth axis may hold, see `read_image`.

    Raises:
        UserError: as for `read_image`, or the file needs an extra that is not installed.
    """
    image_format = format_of(path) if path.is_file() else None
    if image_format is None:
        yield read_image(path, fourth_axis)
        return
    with image_format.open_rows(path, scratch) as rows:
        yield read_image(path, fourth_axis) if rows is None else rows


@contextmanager
def open_mask(path: Path, scratch: Path | None = None) -> Iterator[Rows]:
    """Open a mask that cDAL wrote as an image; its values are the classes.

    Large TIFF masks stay on disk, like the pictures that they belong to.

    Args:
        path: path of the file.
        scratch: see `open_image`.

    Raises:
        UserError: as for `read_label`.
    """
    if suffix_of(path) not in (".tif", ".tiff") or not path.is_file():
        yield read_label(path)
        return
    from cdal.imaging.formats.tiff_rows import open_rows

    with open_rows(path, scratch, indices=True) as rows:
        yield read_label(path) if rows is None else rows
