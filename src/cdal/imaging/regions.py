"""Large pictures opened to be read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdal.imaging.formats import suffix_of
from cdal.imaging.formats.slide import SLIDES, Slide
from cdal.imaging.formats.tiff import open_tiff, tiff_regions
from cdal.imaging.rows import Regions


@contextmanager
def open_regions(path: Path, scratch: Path) -> Iterator[Regions | None]:
    """A large picture; none where the file is no large picture, or of a format that is decoded in one piece.

    Args:
        path: of a TIFF or a slide.
        scratch: a folder for decoded rows, where a file cannot be decoded in parts.

    Raises:
        UserError: the file is damaged, or needs an extra that is not installed.
    """
    if path.suffix.lower() in SLIDES:
        yield Slide(path)
        return
    if suffix_of(path) not in (".tif", ".tiff") or not path.is_file():
        yield None
        return
    with open_tiff(path) as file:
        yield None if file is None else tiff_regions(path, file, scratch)
