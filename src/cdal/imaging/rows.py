"""Large pictures, read some rows at a time, so that memory does not grow with their height."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cdal.imaging.image import Image

LARGE = 2**24
"""Pixels of a picture that is segmented by region."""


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


class InMemory:
    """An image that is in memory already, as `Regions`."""

    def __init__(self, image: Image) -> None:
        self.image = self.like = image
        self.shape = (image.shape[0], image.shape[1])
        self.channels, self.stored = len(image.array), image.stored

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Regions.rows`."""
        return self.image.array[:, start:stop]


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
