"""Reading images and keeping results a few rows at a time.

Memory use therefore does not grow with the size of an image.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cdal.imaging.image import Image

LARGE = 2**24
"""Size, in voxels, from which an image counts as large.

Results of large images are kept on disk until they are written. Large pictures are read a few rows
at a time.
"""


class Rows(Protocol):
    """An image that is read by rows: an `Image`, or a large picture on disk.

    Attributes:
        shape: shape without channels, `*S`.
        stored: type of the numbers on disk.
        like: an `Image` of the same format and geometry for the writers of results; it may be
            empty.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without channels, `*S`."""
        ...

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of the numbers on disk."""
        ...

    @property
    def like(self) -> Image:
        """An `Image` of the same format and geometry; it may be empty."""
        ...

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows `[C, stop - start, *rest]` float32."""
        ...


class RowStore:
    """Rows of numbers in a file, appended in order and read in any order.

    Args:
        path: path of the file.
        width: numbers per row.
        kind: type of the numbers.
        offset: bytes before the first row.
    """

    def __init__(self, path: Path, width: int, kind: np.dtype[Any] | type, offset: int = 0) -> None:
        self.path, self.width, self.kind, self.offset = path, width, np.dtype(kind), offset

    def append(self, rows: np.ndarray) -> None:
        """Write rows `[h, width]` at the end."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self.kind).data)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows `[stop - start, width]`."""
        skip = self.offset + start * self.width * self.kind.itemsize
        return np.fromfile(self.path, self.kind, (stop - start) * self.width, offset=skip).reshape(
            stop - start, self.width
        )


class Kept:
    """Numbers `[*lead, n, *rest]` that are appended by rows and kept in memory or in a file.

    Args:
        kind: type of the numbers.
        path: path of the file; in memory if `None`.
    """

    def __init__(self, kind: type, path: Path | None = None) -> None:
        self.kind, self.path = kind, path
        self.lead: tuple[int, ...] = ()
        self.rest: tuple[int, ...] = ()
        self.count = 0
        self._bands: list[np.ndarray] = []

    def append(self, band: np.ndarray, lead: int = 0) -> None:
        """Keep the next rows, `[*lead, h, *rest]`; `lead` is the number of axes before the rows."""
        self.lead, self.rest = band.shape[:lead], band.shape[lead + 1 :]
        self.count += band.shape[lead]
        rows_first = np.moveaxis(band, lead, 0)
        if self.path is None:
            self._bands.append(rows_first.astype(self.kind, copy=False))
        else:
            self._store.append(rows_first.reshape(len(rows_first), -1))

    def array(self) -> np.ndarray:
        """Return all numbers, `[*lead, n, *rest]`."""
        return self.rows(0, self.count)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return some of the rows, `[*lead, stop - start, *rest]`."""
        if self.path is None:
            if len(self._bands) > 1:
                self._bands = [np.concatenate(self._bands)]
            kept_rows = self._bands[0][start:stop]
        else:
            kept_rows = self._store.rows(start, stop).reshape(-1, *self.lead, *self.rest)
        return np.moveaxis(kept_rows, 0, len(self.lead))

    @property
    def _store(self) -> RowStore:
        assert self.path is not None  # only used if there is a file
        return RowStore(self.path, math.prod(self.lead) * math.prod(self.rest), self.kind)
