"""Large pictures, read some rows at a time, so that memory does not grow with their height."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile

from cdal.data.formats import suffix_of
from cdal.data.formats.tiff import appearance, has_alpha, largest_series, resolution_tags, upside_down
from cdal.data.image import Image
from cdal.errors import UserError
from cdal.files import replacing

LARGE = 2**24
"""Pixels of a picture that is segmented by region."""

MOST_PIXELS = 1e12
"""More than any slide scanner gives: the sign of a damaged header."""

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu")
"""Whole slides, which need the extra `slides`."""

_TILE = 256
_LARGEST_STRIP = 2**26


class Regions(Protocol):
    """A picture that gives rows.

    Attributes:
        shape: rows and columns.
        channels: C, without an alpha channel.
        stored: the type of its numbers.
        like: an `Image` without content, for the writer of the mask.
    """

    shape: tuple[int, int]
    channels: int
    stored: np.dtype[Any]
    like: Image

    def rows(self, start: int, stop: int) -> np.ndarray:
        """`[C, stop - start, W]`, float32."""
        ...


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
        yield _Slide(path)
        return
    if suffix_of(path) not in (".tif", ".tiff") or not path.is_file():
        yield None
        return
    with _open_tiff(path) as file:
        yield None if file is None else _tiff_regions(path, file, scratch)


@contextmanager
def _open_tiff(path: Path) -> Iterator[tifffile.TiffFile | None]:
    """The file; none where it is no TIFF at all, which its reader says better."""
    try:
        file = tifffile.TiffFile(path)
    except Exception:
        yield None
        return
    with file:
        yield file


def _tiff_regions(path: Path, file: tifffile.TiffFile, scratch: Path) -> Regions | None:
    try:
        series = largest_series(file)
        page = series.keyframe
        picture = series.axes in ("YX", "YXS") and len(series.pages) == 1 and page.planarconfig != 2
        plain = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
        plain = plain or page.photometric == tifffile.PHOTOMETRIC.YCBCR
        if not picture or not plain or series.shape[0] * series.shape[1] < LARGE:
            return None
        if series.shape[0] * series.shape[1] > MOST_PIXELS:
            raise UserError(f"{path}: its header promises {series.shape[0]} x {series.shape[1]} pixels. Is the file damaged?")
        return _Tiff(path, page, scratch)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises a dozen kinds
        raise UserError(f"{path} cannot be read as TIFF: {error}. Is the file complete, and is it what its name says?") from error


class InMemory:
    """An image that is in memory already, as `Regions`."""

    def __init__(self, image: Image) -> None:
        self.image = self.like = image
        self.shape = (image.shape[0], image.shape[1])
        self.channels, self.stored = len(image.array), image.stored

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Regions.rows`."""
        return self.image.array[:, start:stop]


class _Tiff:
    """A page of tiles or strips, of which those that are asked for are decoded."""

    def __init__(self, path: Path, page: Any, scratch: Path) -> None:
        self.page, self.shape, self.stored = page, (int(page.shape[0]), int(page.shape[1])), np.dtype(page.dtype)
        samples = page.shape[2] if len(page.shape) == 3 else 1
        self.samples, self.channels = samples, samples - 1 if has_alpha(page) and samples in (2, 4) else samples
        self.like = Image(np.zeros((1, 0, 0), np.float32), None, path.suffix.lower(), resolution_tags(page), self.stored)
        self.path, self.invert = path, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        self.decoded: RowStore | None = None
        if not page.is_tiled and page.rowsperstrip * page.shape[1] * samples * self.stored.itemsize > _LARGEST_STRIP:
            # One strip for the whole picture: plain numbers can be read in part, compressed ones are decoded once.
            if page.compression == 1 and page.is_contiguous and page.parent.byteorder == "<":
                self.decoded = RowStore(path, self.shape[1] * samples, self.stored, int(page.dataoffsets[0]))
            else:
                self.decoded = RowStore(scratch / "decoded", self.shape[1] * samples, self.stored)
                self.decoded.append(page.asarray().reshape(self.shape[0], -1))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Regions.rows`."""
        try:
            whole = self.decoded
            found = self._decode(start, stop) if whole is None else whole.rows(start, stop).reshape(stop - start, -1, self.samples)
        except Exception as error:  # a damaged tile raises a dozen kinds
            raise UserError(f"{self.path} cannot be read as TIFF: {error}. Is the file complete?") from error
        found = upside_down(found, self.page.bitspersample) if self.invert else found
        return np.moveaxis(found[..., : self.channels], -1, 0).astype(np.float32)

    def _decode(self, start: int, stop: int) -> np.ndarray:
        page = self.page
        height = page.tilelength if page.is_tiled else page.rowsperstrip
        width = page.tilewidth if page.is_tiled else self.shape[1]
        across = math.ceil(self.shape[1] / width)
        first, last = start // height, (stop - 1) // height
        indices = list(range(first * across, (last + 1) * across))
        found = np.zeros((stop - start, self.shape[1], self.samples), self.stored)
        offsets, lengths = [page.dataoffsets[i] for i in indices], [page.databytecounts[i] for i in indices]
        for data, place in page.parent.filehandle.read_segments(offsets, lengths, indices=indices):
            tile, _, shape = page.decode(data, place, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            if tile is None:  # a sparse file leaves empty tiles out
                continue
            tile = tile.reshape(tile.shape[-3:])[: shape[-3], : shape[-2]]
            top, left = (place // across) * height, (place % across) * width
            low, high = max(start, top), min(stop, top + len(tile))
            if low < high:
                found[low - start : high - start, left : left + tile.shape[1]] = tile[
                    low - top : high - top, : self.shape[1] - left
                ]
        return found


class _Slide:
    """A whole slide at its full resolution, by OpenSlide."""

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except ImportError as error:
            raise UserError(f"{path} is a whole slide, which needs OpenSlide: pip install 'cdal[slides]'.") from error
        try:
            self.slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UserError(f"{path} cannot be read as a slide: {error}. Is the file complete?") from error
        width, height = self.slide.dimensions
        self.shape, self.channels, self.stored = (height, width), 3, np.dtype(np.uint8)
        self.like = Image(np.zeros((1, 0, 0), np.float32), None, ".tif", None, self.stored)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Regions.rows`; what was not scanned is white."""
        region = np.asarray(self.slide.read_region((0, start), 0, (self.shape[1], stop - start)), np.float32)
        alpha = region[..., 3:] / 255
        return np.moveaxis(region[..., :3] * alpha + 255 * (1 - alpha), -1, 0)


class RowStore:
    """Rows of numbers in a file, written one after the other and read in any order.

    Args:
        path: of the file.
        width: numbers in a row.
        kind: their type.
        offset: bytes before the first row.
    """

    def __init__(self, path: Path, width: int, kind: np.dtype[Any] | type, offset: int = 0) -> None:
        self.path, self.width, self.kind, self.offset = path, width, np.dtype(kind), offset

    def append(self, rows: np.ndarray) -> None:
        """Write rows `[h, width]` at the end."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self.kind).data)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """`[stop - start, width]`."""
        skip = self.offset + start * self.width * self.kind.itemsize
        return np.fromfile(self.path, self.kind, (stop - start) * self.width, offset=skip).reshape(stop - start, self.width)


def write_tiled(path: Path, store: RowStore, height: int, like: Image, labels: bool) -> None:
    """Write the rows of a store as a tiled, compressed TIFF (BigTIFF where it has to be), some rows in memory at a time."""

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, height, _TILE):
            band = store.rows(top, min(height, top + _TILE))
            for left in range(0, store.width, _TILE):
                tile = np.zeros((_TILE, _TILE), store.kind)
                part = band[:, left : left + _TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile

    big = height * store.width * store.kind.itemsize > 2**31
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=big) as writer:
        writer.write(
            tiles(),
            shape=(height, store.width),
            dtype=store.kind,
            tile=(_TILE, _TILE),
            **appearance(like.header, labels and store.kind == np.uint8),
        )
