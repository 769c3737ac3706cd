"""Overlapping windows, blended with a Gaussian, one band of rows at a time.

Memory grows with the size of a band, not with that of the image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cdal.recipes.settings import DataSettings

VOXELS_AT_ONCE = {2: 2**17, 3: 2**18}
"""Voxels of the windows in one batch, by axes of space; a batch has at least one window.

This bounds the memory of a pass. Volumes take less memory for a voxel: their networks are narrower
and shrink them along a third axis.
"""

Draw = Callable[[np.ndarray], np.ndarray]
"""Draws votes for images that the network sees in one piece, `[B, C, *S] -> [V, B, K, *S]`."""

Read = Callable[[int, int], np.ndarray]
"""Gives rows `start` to `stop` of an image as the network sees it, `[C, stop - start, *rest]`."""


def blend(
    draw: Draw, read: Read, shape: tuple[int, ...], data: DataSettings
) -> Iterator[np.ndarray]:
    """Votes for an image in windows, one band of rows after the other.

    Args:
        draw: draws votes for a batch of windows.
        read: reads rows of the image.
        shape: shape of the image, at least that of a window.
        data: `size` and `overlap` of the windows. Without overlap, windows are weighted uniformly.

    Yields:
        Votes of the next rows, `[V, K, h, *rest]`. The array is reused for the next band.
    """
    size = data.size
    importance = _gaussian(size) if data.overlap else np.ones(size, np.float32)
    tops, *others = (
        _starts(length, extent, data.overlap) for length, extent in zip(shape, size, strict=True)
    )
    places = list(itertools.product(*others))
    at_once = max(1, VOXELS_AT_ONCE[len(size)] // math.prod(size))
    total: np.ndarray | None = None
    weight = np.zeros((size[0], *shape[1:]), np.float32)
    for top, following in zip(tops, [*tops[1:], shape[0]], strict=True):
        band = read(top, top + size[0])
        for some in [places[i : i + at_once] for i in range(0, len(places), at_once)]:
            parts: list[Any] = [
                (..., *map(slice, place, np.add(place, size[1:]))) for place in some
            ]
            drawn = draw(np.stack([band[part] for part in parts]))
            if total is None:
                total = np.zeros((len(drawn), drawn.shape[2], *weight.shape), np.float32)
            for i, part in enumerate(parts):
                total[part] += drawn[:, i] * importance
                weight[part] += importance
        assert total is not None  # every row of windows has one at least
        finished = following - top
        for vote in total:  # one at a time: no second copy of all votes
            vote[:, :finished] /= weight[:finished]
        yield total[:, :, :finished]
        if following == shape[0]:
            return
        for rows in (*total.swapaxes(1, 2), weight):
            rows[: size[0] - finished] = rows[finished:].copy()
            rows[size[0] - finished :] = 0


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """First positions of the windows: evenly spaced, the last one flush with the end."""
    step = max(1, int(size * (1 - overlap)))
    return [*range(0, length - size, step), length - size]


def _gaussian(size: tuple[int, ...]) -> np.ndarray:
    """Weight of each voxel of a window.

    A Gaussian with a deviation of an eighth, at least 0.001.
    """
    importance = np.ones(size)
    for axis, extent in enumerate(size):
        x = np.arange(extent) - (extent - 1) / 2
        importance *= np.exp(-(x**2) / (2 * (0.125 * extent) ** 2)).reshape(
            [-1 if i == axis else 1 for i in range(len(size))]
        )
    return np.maximum(importance, 1e-3).astype(np.float32)
