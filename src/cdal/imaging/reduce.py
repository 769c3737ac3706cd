"""Large pictures made small, read a few rows at a time."""

from __future__ import annotations

import numpy as np

from cdal.imaging.rows import LARGE, Rows


def reduced(picture: Rows, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """Make a picture of any size small, with only some of its rows in memory.

    Args:
        picture: picture, of at least as many rows and columns as the result.
        size: rows and columns of the result.
        nearest: whether a result is the pixel in the middle of those that it stands for, as labels
            need; otherwise it is their mean.

    Returns:
        `[C, *size]` float32.
    """
    own = getattr(picture, "reduced", None)
    if own is not None and not nearest and (small := own(size)) is not None:
        return np.asarray(small, np.float32)
    return _sampled(picture, size) if nearest else _averaged(picture, size)


def _averaged(picture: Rows, size: tuple[int, int]) -> np.ndarray:
    (height, width), (rows, columns) = picture.shape, size
    row_of = np.arange(height) * rows // height
    starts = -(-np.arange(columns) * width // columns)
    total: np.ndarray | None = None
    for start in range(0, height, _band(width)):
        stop = min(height, start + _band(width))
        sums = np.add.reduceat(picture.rows(start, stop), starts, axis=2, dtype=np.float64)
        if total is None:
            total = np.zeros((len(sums), rows, columns))
        groups, firsts = np.unique(row_of[start:stop], return_index=True)
        total[:, groups] += np.add.reduceat(sums, firsts, axis=1)
    assert total is not None  # a picture has rows
    count = np.bincount(row_of)[:, None] * np.diff(np.append(starts, width))
    return (total / count).astype(np.float32)


def _sampled(picture: Rows, size: tuple[int, int]) -> np.ndarray:
    (height, width), (rows, columns) = picture.shape, size
    row_of = (2 * np.arange(rows) + 1) * height // (2 * rows)
    column_of = (2 * np.arange(columns) + 1) * width // (2 * columns)
    parts = []
    for start in range(0, height, _band(width)):
        wanted = row_of[(row_of >= start) & (row_of < start + _band(width))]
        if len(wanted):
            first = int(wanted[0])
            band = picture.rows(first, int(wanted[-1]) + 1)
            parts.append(band[:, wanted - first][:, :, column_of])
    return np.concatenate(parts, axis=1).astype(np.float32)


def _band(width: int) -> int:
    """Rows to read at a time: as many as a row of tiles has, fewer of very wide pictures."""
    return min(256, max(32, LARGE // width))
