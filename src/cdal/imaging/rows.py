"""Images that are read, and results that are kept, some rows at a time, so that memory does not grow with their size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cdal.imaging.image import Image

LARGE = 2**24
"""Voxels of an image whose results are kept on disk until they are written, and of a picture that is read some rows at a time."""


class Rows(Protocol):
    """An image that gives rows: an `Image`, or a large picture on disk.

    Attributes:
        shape: `*S`.
        stored: the type of its numbers on disk.
        like: an `Image` of the same format and geometry, perhaps without content, for the writers of results.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`*S`."""
        ...

    @property
    def stored(self) -> np.dtype[Any]:
        """The type of its numbers on disk."""
        ...

    @property
    def like(self) -> Image:
        """An `Image` of the same format and geometry."""
        ...

    def rows(self, start: int, stop: int) -> np.ndarray:
        """`[C, stop - start, *rest]`, float32."""
        ...


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


class Kept:
    """Numbers `[*lead, n, *rest]` that come some rows at a time, and are kept in memory or in a file.

    Args:
        kind: type of the numbers.
        path: of the file; in memory if `None`.
    """

    def __init__(self, kind: type, path: Path | None = None) -> None:
        self.kind, self.path = kind, path
        self.lead: tuple[int, ...] = ()
        self.rest: tuple[int, ...] = ()
        self.count = 0
        self._bands: list[np.ndarray] = []

    def append(self, band: np.ndarray, lead: int = 0) -> None:
        """Keep the next rows, `[*lead, h, *rest]`, of which `lead` axes come before the rows."""
        self.lead, self.rest = band.shape[:lead], band.shape[lead + 1 :]
        self.count += band.shape[lead]
        rows_first = np.moveaxis(band, lead, 0)
        if self.path is None:
            self._bands.append(rows_first.astype(self.kind, copy=False))
        else:
            self._store.append(rows_first.reshape(len(rows_first), -1))

    def array(self) -> np.ndarray:
        """All of it, `[*lead, n, *rest]`."""
        return self.rows(0, self.count)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some of the rows, `[*lead, stop - start, *rest]`."""
        if self.path is None:
            if len(self._bands) > 1:
                self._bands = [np.concatenate(self._bands)]
            found = self._bands[0][start:stop]
        else:
            found = self._store.rows(start, stop).reshape(-1, *self.lead, *self.rest)
        return np.moveaxis(found, 0, len(self.lead))

    @property
    def _store(self) -> RowStore:
        assert self.path is not None  # asked of files only
        return RowStore(self.path, math.prod(self.lead) * math.prod(self.rest), self.kind)
