"""Large pictures by tiles, as OpenSeadragon asks for them.

Level 0 is one pixel; each level is twice as large as the one before, and the last is the picture.
Slides have smaller copies of themselves, which OpenSlide reads. Of other pictures they are made
once, a few rows at a time, and kept on disk.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from cdal.imaging.rows import Rows, RowStore
from cdal.runtime.errors import UserError
from cdal.serve.answers import Answer
from cdal.serve.cases import Entry
from cdal.serve.kept import Kept
from cdal.serve.opened import Opener
from cdal.serve.refusals import missing

TILE = 256
Read = Callable[[int, int], np.ndarray]
"""Function that returns rows of a level, `(start, stop) -> [stop - start, W, 1 or 3]` uint8."""

_QUALITY = 85
_SAMPLED = 64
"""Rows by which the contrast of a picture of more than 8 bits is found."""


def shape_answer(shape: tuple[int, ...]) -> Answer:
    """Size of a picture and of its tiles, and the number of levels."""
    height, width = shape[:2]
    return {"width": width, "height": height, "tile": TILE, "levels": levels_of(shape)}


def levels_of(shape: tuple[int, ...]) -> int:
    """Number of levels of a picture."""
    return math.ceil(math.log2(max(*shape[:2], 1))) + 1


def tile_of(
    entry: Entry, tag: str, level: int, column: int, row: int, opener: Opener, kept: Kept
) -> bytes:
    """One tile as JPEG.

    Args:
        entry: the case.
        tag: checksum of its image.
        level: level of the tile.
        column: its place from the left, in tiles.
        row: its place from the top.
        opener: opens the image.
        kept: folder for the smaller copies.

    Raises:
        HTTPException: 404, there is no such tile.
        UserError: the image is missing or damaged, or is a volume.
    """
    with opener.open(entry) as rows:
        shape = rows.shape
        if len(shape) != 2:
            raise UserError(f"{entry.name} is a volume; tiles are for pictures.")
        if not 0 <= level < levels_of(shape):
            raise missing(f"Level {level}")
        height, width = (_at_level(n, level, shape) for n in shape)
        top, left = row * TILE, column * TILE
        if not (0 <= top < height and 0 <= left < width):
            raise missing(f"The tile {column}_{row}")
        stop, right = min(height, top + TILE), min(width, left + TILE)
        if (slide := getattr(rows, "slide", None)) is not None:
            from openslide.deepzoom import DeepZoomGenerator

            generator = DeepZoomGenerator(slide, TILE, 0)
            return _jpeg(np.asarray(generator.get_tile(level, (column, row)).convert("RGB")))
        folder = kept.get(tag, lambda place: _make_levels(rows, place))
        with _pixels(rows, folder, level) as read:
            return _jpeg(read(top, stop)[:, left:right])


def _at_level(length: int, level: int, shape: tuple[int, ...]) -> int:
    """Rows or columns of a level."""
    return math.ceil(length / 2 ** (levels_of(shape) - 1 - level))


def _make_levels(rows: Rows, folder: Path) -> None:
    """Write every level but the last into a folder, each from the one above it."""
    window = _window(rows)
    np.save(folder / "window.npy", np.array(window))
    shape = rows.shape

    def full(start: int, stop: int) -> np.ndarray:
        return _eight_bits(rows.rows(start, stop), window)

    read: Read = full
    for level in range(levels_of(shape) - 2, -1, -1):
        height, width = (_at_level(n, level + 1, shape) for n in shape)
        store: RowStore | None = None
        for start in range(0, height, 2 * TILE):
            band = _halved(read(start, min(height, start + 2 * TILE)))
            store = store or RowStore(folder / str(level), band[0].size, np.uint8)
            store.append(band.reshape(len(band), -1))
        assert store is not None  # every level has a row
        read = _reader(store, (width + 1) // 2)


def _reader(store: RowStore, width: int) -> Read:
    """Read rows of a level, `[h, w, C]` uint8."""

    def read(start: int, stop: int) -> np.ndarray:
        return store.rows(start, stop).reshape(stop - start, width, -1)

    return read


@contextmanager
def _pixels(rows: Rows, folder: Path, level: int) -> Iterator[Read]:
    """A function that reads rows of a level."""
    shape = rows.shape
    if level == levels_of(shape) - 1:
        low, high = np.load(folder / "window.npy")
        yield lambda start, stop: _eight_bits(rows.rows(start, stop), (float(low), float(high)))
        return
    height, width = (_at_level(n, level, shape) for n in shape)
    path = folder / str(level)
    yield _reader(RowStore(path, path.stat().st_size // height, np.uint8), width)


def _window(rows: Rows) -> tuple[float, float]:
    """Intensities that become black and white."""
    if rows.stored == np.uint8:
        return 0.0, 255.0
    places = np.linspace(0, rows.shape[0] - 1, min(_SAMPLED, rows.shape[0])).astype(int)
    sample = np.concatenate([rows.rows(int(k), int(k) + 1).ravel() for k in places])
    low, high = np.percentile(sample, [0.5, 99.5])
    return float(low), float(max(high, low + 1e-9))


def _eight_bits(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Gray or colours `[C, h, w]` as `[h, w, 1 or 3]` uint8."""
    shown = values[:3] if len(values) >= 3 else values[:1]
    low, high = window
    scaled = shown if window == (0.0, 255.0) else (shown - low) / (high - low) * 255
    return np.moveaxis(np.clip(np.round(scaled), 0, 255).astype(np.uint8), 0, -1)


def _halved(band: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, `[h, w, C] -> [h / 2, w / 2, C]`; an odd edge counts twice."""
    height, width = band.shape[:2]
    even = np.pad(band, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    sums = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> bytes:
    picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=_QUALITY)
    return stream.getvalue()
