"""Simple numbers of an image, by which near copies are recognised.

They are computed from what the network sees, not from the network. So they exist for every system
and for exported graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from cdal.inference.windows import Read

CELLS = {2: 8, 3: 4}
"""Cells along each axis of pictures and volumes; 64 in all."""

_ROWS = 64
"""Most rows of a cell that are read; evenly spaced ones if there are more."""

_SAMPLED = 2**12
"""Most voxels of a row of cells that count for the deciles."""


def image_features(read: Read, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Layout, texture and intensities of one image.

    Args:
        read: reads rows of the image, as the network sees it.
        shape: shape of the image on the network's grid.

    Returns:
        For 8 x 8 cells of a picture or 4 x 4 x 4 of a volume the mean and the standard deviation
        of each channel, `[C * 64]` each; and the deciles of each channel, `[C * 9]`.
    """
    tops, *others = (_cells(length, CELLS[len(shape)]) for length in shape)
    means, deviations, sampled = [], [], []
    for rows in tops:
        values = _rows(read, rows)
        for place in itertools.product(*others):
            part = (slice(None), slice(None), *place)
            cell = values[part].reshape(len(values), -1)
            means.append(cell.mean(axis=1, dtype=np.float64))
            deviations.append(cell.std(axis=1, dtype=np.float64))
        flat = values.reshape(len(values), -1)
        sampled.append(flat[:, :: max(1, flat.shape[1] // _SAMPLED)])
    deciles = np.quantile(np.concatenate(sampled, axis=1), np.arange(1, 10) / 10, axis=1)
    return np.concatenate(means), np.concatenate(deviations), deciles.ravel()


def together(images: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Place the images in one space, in which every kind of numbers counts as much.

    Each kind is divided by the root of its variance, summed over its numbers and taken over the
    images. The mean squared distance of two images thus is twice the number of kinds that differ.

    Args:
        images: the kinds of numbers of each image, alike in shape.

    Returns:
        A place for each image, `[N, F]`.
    """
    kinds = []
    for kind in zip(*images, strict=True):
        values = np.array(kind, np.float64)
        values -= values.mean(axis=0)
        spread = float(np.sqrt(values.var(axis=0).sum()))
        kinds.append(values / spread if spread > 0 else values)
    return np.concatenate(kinds, axis=1)


def _cells(length: int, count: int) -> list[slice]:
    """Ranges that divide an axis; they overlap if it has fewer voxels than cells."""
    return [
        slice(i * length // count, max(i * length // count + 1, (i + 1) * length // count))
        for i in range(count)
    ]


def _rows(read: Read, rows: slice) -> np.ndarray:
    """Some rows of an image, `[C, h, *rest]`, evenly spaced if there are many."""
    count = rows.stop - rows.start
    if count <= _ROWS:
        return read(rows.start, rows.stop)
    chosen = [rows.start + i * count // _ROWS for i in range(_ROWS)]
    return np.concatenate([read(row, row + 1) for row in chosen], axis=1)
