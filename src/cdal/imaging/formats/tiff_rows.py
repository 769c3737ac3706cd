"""Large TIFF pictures, of which only the rows in use are decoded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cdal.imaging.formats import readable
from cdal.imaging.formats.picture import turned
from cdal.imaging.formats.tiff_page import (
    has_alpha,
    inverted,
    largest_series,
    need_content,
    orientation,
    resolution_tags,
)
from cdal.imaging.image import Image, need_regular
from cdal.imaging.rows import LARGE, Rows, RowStore
from cdal.runtime.errors import UserError
from cdal.runtime.files import scratch_folder
from cdal.runtime.memory import need_memory

LARGEST_STRIP = 2**26
"""Largest strip, in bytes, that is decoded again whenever some of its rows are needed."""

MOST_PIXELS = 1e12
"""More pixels than any slide scanner produces; a larger image has a damaged header."""


@contextmanager
def open_rows(path: Path, scratch: Path | None, indices: bool = False) -> Iterator[Rows | None]:
    """Open a large picture, see `cdal.imaging.formats.Format`.

    With `indices`, a picture with a palette is read too; its numbers are those of the palette.
    """
    need_regular(path)
    with ExitStack() as stack:
        with readable(path, "TIFF"):
            file = stack.enter_context(tifffile.TiffFile(path))
            folder = scratch or stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
            page = _large_page(path, file, indices)
            rows = None if page is None else _Tiff(path, page, folder)
        yield rows


def _large_page(path: Path, file: tifffile.TiffFile, indices: bool) -> Any:
    """Return the page of a large picture.

    Returns:
        `None` if the file is small or must be decoded in one piece.
    """
    series = largest_series(file)
    page = series.keyframe
    picture = series.axes in ("YX", "YXS") and len(series.pages) == 1 and page.planarconfig != 2
    plain = page.photometric in (
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.MINISWHITE,
        tifffile.PHOTOMETRIC.RGB,
    )
    plain = plain or page.photometric == tifffile.PHOTOMETRIC.YCBCR
    plain = plain or (indices and page.photometric == tifffile.PHOTOMETRIC.PALETTE)
    pixels = series.shape[0] * series.shape[1]
    if not picture or not plain or pixels < LARGE or orientation(page) >= 5:
        return None
    if pixels > MOST_PIXELS:
        raise UserError(
            f"{path}: its header promises {series.shape[0]} x {series.shape[1]} pixels. Is the "
            "file damaged?"
        )
    need_content(path, series)
    return page


class _Tiff:
    """A tiled or stripped page of which only the requested parts are decoded.

    See `cdal.imaging.rows.Rows`.
    """

    def __init__(self, path: Path, page: Any, scratch: Path) -> None:
        self.page, self.shape, self.stored = (
            page,
            (int(page.shape[0]), int(page.shape[1])),
            np.dtype(page.dtype),
        )
        samples = page.shape[2] if len(page.shape) == 3 else 1
        self.samples, self._channels = (
            samples,
            samples - 1 if has_alpha(page) and samples in (2, 4) else samples,
        )
        self.like = Image(
            np.zeros((1, 0, 0), np.float32),
            None,
            path.suffix.lower(),
            resolution_tags(page),
            self.stored,
        )
        self.path, self.invert = path, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        self.orientation = orientation(page)
        self.decoded: RowStore | None = None
        if (
            not page.is_tiled
            and page.rowsperstrip * page.shape[1] * samples * self.stored.itemsize > LARGEST_STRIP
        ):
            # The whole picture is one large strip. Uncompressed data can be read from the file in
            # part; compressed data is decoded once.
            if page.compression == 1 and page.is_contiguous and page.parent.byteorder == "<":
                self.decoded = RowStore(
                    path, self.shape[1] * samples, self.stored, int(page.dataoffsets[0])
                )
            else:
                self.decoded = RowStore(scratch / "decoded", self.shape[1] * samples, self.stored)
                size = math.prod(page.shape) * self.stored.itemsize
                need_memory(2 * size, str(path), "Save it in tiles, which can be read by region.")
                self.decoded.append(page.asarray().reshape(self.shape[0], -1))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the picture, see `Rows.rows`."""
        height = self.shape[0]
        low, high = (height - stop, height - start) if self.orientation in (3, 4) else (start, stop)
        with readable(self.path, "TIFF"):
            decoded = self.decoded
            pixels = (
                self._decode(low, high)
                if decoded is None
                else decoded.rows(low, high).reshape(high - low, -1, self.samples)
            )
            pixels = inverted(pixels, self.page.bitspersample) if self.invert else pixels
            pixels = turned(pixels[..., : self._channels], self.orientation)
            return np.ascontiguousarray(np.moveaxis(pixels, -1, 0), np.float32)

    def _decode(self, start: int, stop: int) -> np.ndarray:
        page = self.page
        height = page.tilelength if page.is_tiled else page.rowsperstrip
        width = page.tilewidth if page.is_tiled else self.shape[1]
        across = math.ceil(self.shape[1] / width)
        first, last = start // height, (stop - 1) // height
        indices = list(range(first * across, (last + 1) * across))
        pixels = np.zeros((stop - start, self.shape[1], self.samples), self.stored)
        offsets, lengths = (
            [page.dataoffsets[i] for i in indices],
            [page.databytecounts[i] for i in indices],
        )
        # Without indices, which tifffile took wrongly for a single segment before 2025.6.
        for data, number in page.parent.filehandle.read_segments(offsets, lengths):
            place = indices[number]
            tile, _, shape = page.decode(
                data, place, jpegtables=page.jpegtables, jpegheader=page.jpegheader
            )
            if tile is None:  # sparse files omit empty tiles
                continue
            tile = tile.reshape(tile.shape[-3:])[: shape[-3], : shape[-2]]
            top, left = (place // across) * height, (place % across) * width
            low, high = max(start, top), min(stop, top + len(tile))
            if low < high:
                pixels[low - start : high - start, left : left + tile.shape[1]] = tile[
                    low - top : high - top, : self.shape[1] - left
                ]
        return pixels
