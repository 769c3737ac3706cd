"""TIFF pictures and stacks, tiled or in strips, read and written with tifffile."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cdal.imaging.formats.picture import channels_first
from cdal.imaging.image import Image, need_size
from cdal.imaging.palette import PALETTE
from cdal.imaging.rows import LARGE, Kept, Rows, RowStore
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

_PAGES = "ZIQTR"
"""Names that tifffile gives to page axes."""

_RESOLUTION = ("XResolution", "YResolution", "ResolutionUnit")

_TILE = 256
LARGEST_STRIP = 2**26
"""Largest strip, in bytes, that is decoded again whenever some of its rows are needed."""

MOST_PIXELS = 1e12
"""More pixels than any slide scanner produces; a larger image has a damaged header."""


def read(path: Path, as_label: bool) -> Image:
    """Read one page as a picture `[C, H, W]`, several as a volume `[C, H, W, pages]`.

    The volume has no geometry.
    """
    with tifffile.TiffFile(path) as file:
        series = largest_series(file)
        need_size(path, series.shape)
        keyframe: Any = series.keyframe
        array = series.asarray()
        axes = series.axes
        if keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE and not as_label:
            colours = np.moveaxis(np.asarray(keyframe.colormap), 0, -1)[array]  # 16 bits per colour
            array, axes = (colours >> 8).astype(np.uint8), axes + "S"
        if keyframe.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB):
            raise UserError(
                f"{path}: expected gray or red, green and blue; its colours are "
                f"{keyframe.photometric.name}. Convert it."
            )
        if keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = inverted(array, keyframe.bitspersample)
        alpha, header = has_alpha(keyframe), resolution_tags(keyframe)
    stored = array.dtype
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: expected whole or floating-point numbers; it holds {array.dtype}. Convert it "
            "first."
        )
    keep = [
        i
        for i, (axis, length) in enumerate(zip(axes, array.shape, strict=True))
        if length > 1 or axis in "YX"
    ]
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    pages = [axis for axis in axes if axis in _PAGES]
    channels = [axis for axis in axes if axis in "SC"]
    if len(pages) > 1 or len(channels) > 1 or len(pages) + len(channels) + 2 != len(axes):
        raise UserError(
            f"{path}: expected a picture or a stack of pages, with channels if any; its axes are "
            f"{axes}, {array.shape}."
        )
    order = ["Y", "X", *pages, *channels]
    array = array.transpose([axes.index(axis) for axis in order])
    array = array[..., :-1] if alpha and "S" in channels else array
    array = channels_first(array) if channels else array[None].astype(np.float32)
    return Image(array, None, path.suffix.lower(), header, stored)


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write a picture or a volume; each slice of a volume is a page.

    `[N, H, W]` gives N pages, `[N, H, W, pages]` gives N times as many pages as the volume has.
    """
    if len(like.shape) == 3:
        array = np.moveaxis(array, -1, -3)
        array = array.reshape(-1, *array.shape[-2:])
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary, array, **appearance(like.header, labels and array.dtype == np.uint8)
        )


def largest_series(file: tifffile.TiffFile) -> Any:
    """Return the pages of the image without thumbnails and lower pyramid levels."""
    if not file.series:
        raise ValueError("it holds no page")
    return max(file.series, key=lambda series: math.prod(series.shape))


def inverted(array: np.ndarray, bits: Any) -> np.ndarray:
    """Invert numbers of which 0 means white, so that 0 means black."""
    if array.dtype.kind != "u":
        return -array
    top = 2 ** (bits if isinstance(bits, int) else 8 * array.dtype.itemsize) - 1
    return (top - array).astype(array.dtype)


def has_alpha(page: Any) -> bool:
    """Whether the last sample of a page's pixels is an alpha channel."""
    return any(
        extra in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
        for extra in page.extrasamples
    )


def resolution_tags(page: Any) -> dict[str, Any]:
    """Return the tags of a page that give its pixel size."""
    return {name: page.tags[name].value for name in _RESOLUTION if name in page.tags}


def appearance(header: Any, coloured: bool) -> dict[str, Any]:
    """Return tifffile's options for a result.

    Results are compressed and have the input's pixel size.

    Args:
        header: tags from `resolution_tags`.
        coloured: whether to add a palette.
    """
    options: dict[str, Any] = {"compression": "zlib", "metadata": None, "photometric": "minisblack"}
    if coloured:
        options |= {"photometric": "palette", "colormap": PALETTE.T.astype(np.uint16) * 257}
    if not isinstance(header, dict) or not {"XResolution", "YResolution"} <= set(header):
        return options
    return options | {
        "resolution": (header["XResolution"], header["YResolution"]),
        "resolutionunit": int(header.get("ResolutionUnit", 1)),
    }


@contextmanager
def open_rows(path: Path, scratch: Path | None) -> Iterator[Rows | None]:
    """Open a large picture, see `cdal.imaging.formats.Format`."""
    try:
        file = tifffile.TiffFile(path)
    except Exception:
        # Not a TIFF; the error that `read` raises is clearer.
        yield None
        return
    with ExitStack() as stack:
        stack.enter_context(file)
        folder = scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            page = _large_page(path, file)
            rows = None if page is None else _Tiff(path, page, folder)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # damaged files raise many exception types
            raise UserError(
                f"{path} cannot be read as TIFF: {error}. Is the file complete, and is it what its "
                "name says?"
            ) from error
        yield rows


def _large_page(path: Path, file: tifffile.TiffFile) -> Any:
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
    pixels = series.shape[0] * series.shape[1]
    if not picture or not plain or pixels < LARGE:
        return None
    if pixels > MOST_PIXELS:
        raise UserError(
            f"{path}: its header promises {series.shape[0]} x {series.shape[1]} pixels. Is the "
            "file damaged?"
        )
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
                self.decoded.append(page.asarray().reshape(self.shape[0], -1))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the picture, see `Rows.rows`."""
        try:
            decoded = self.decoded
            pixels = (
                self._decode(start, stop)
                if decoded is None
                else decoded.rows(start, stop).reshape(stop - start, -1, self.samples)
            )
        except Exception as error:  # damaged tiles raise many exception types
            raise UserError(
                f"{self.path} cannot be read as TIFF: {error}. Is the file complete?"
            ) from error
        pixels = inverted(pixels, self.page.bitspersample) if self.invert else pixels
        return np.moveaxis(pixels[..., : self._channels], -1, 0).astype(np.float32)

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
        for data, place in page.parent.filehandle.read_segments(offsets, lengths, indices=indices):
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


def write_tiled(path: Path, kept: Kept, like: Image, labels: bool) -> None:
    """Write a tiled, compressed TIFF with only a few rows in memory at a time.

    Args:
        path: path of the file.
        kept: a picture `[H, W]`, or N pictures `[N, H, W]` that become pages.
        like: image that gives the pixel size.
        labels: whether the numbers are classes; classes get a palette if they are uint8.
    """
    lead, height, (width,) = kept.lead, kept.count, kept.rest
    kind = np.dtype(kept.kind)

    def tiles() -> Iterator[np.ndarray]:
        for page in np.ndindex(*lead):
            for top in range(0, height, _TILE):
                band = kept.rows(top, min(height, top + _TILE))[page]
                for left in range(0, width, _TILE):
                    tile = np.zeros((_TILE, _TILE), kind)
                    part = band[:, left : left + _TILE]
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile

    big = math.prod((*lead, height, width)) * kind.itemsize > 2**31
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=big) as writer:
        writer.write(
            tiles(),
            shape=(*lead, height, width),
            dtype=kind,
            tile=(_TILE, _TILE),
            **appearance(like.header, labels and kind == np.uint8),
        )
