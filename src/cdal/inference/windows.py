"""Overlapping windows, blended with a Gaussian, one band of rows at a time.

Memory grows with the size of a band, not with that of the image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdal.recipes.settings import DataSettings
from cdal.runtime.ahead import one_ahead

VOXELS_AT_ONCE = {2: 2**17, 3: 2**18}
"""Voxels of the windows in one batch, by axes of space; a batch has at least one window.

This bounds the memory of a pass. Volumes take less memory for a voxel: their networks are narrower
and shrink them along a third axis. Random numbers are drawn for as many windows at a time.
"""

Read = Callable[[int, int], np.ndarray]
"""Gives rows `start` to `stop` of an image as the network sees it, `[C, stop - start, *rest]`."""

Draw = Callable[..., np.ndarray]
"""Draws votes for images that the network sees in one piece, `[B, C, *S] -> [V, B, K, *S]`.

It also takes what a `Plan` has drawn for the images, if it has."""


@dataclass(frozen=True)
class Plan:
    """How the windows of an image are computed.

    Attributes:
        keep: whether each window is computed, by its place along each axis; `None` for all. What
            none covers is background. The random draws of a window do not depend on it if they are
            drawn before.
        draws: draws the random numbers of so many windows, and gives those of each; `None` if they
            are drawn while the votes are computed.
        at_once: batches whose random numbers were drawn before and that are computed together.
        votes: number of votes V.
        classes: number of classes K; needed if a window is left out.
        ahead: whether the next rows are read while the votes of a band are computed.
    """

    keep: np.ndarray | None = None
    draws: Callable[[int], list[Any]] | None = None
    at_once: int = 1
    votes: int = 1
    classes: int = 0
    ahead: bool = False


def blend(
    draw: Draw, read: Read, shape: tuple[int, ...], data: DataSettings, plan: Plan | None = None
) -> Iterator[np.ndarray]:
    """Votes for an image in windows, one band of rows after the other.

    Args:
        draw: draws votes for a batch of windows.
        read: reads rows of the image.
        shape: shape of the image, at least that of a window.
        data: `size` and `overlap` of the windows. Without overlap, windows are weighted uniformly.
        plan: how the windows are computed.

    Yields:
        Votes of the next rows, `[V, K, h, *rest]`. The array is reused for the next band.
    """
    plan = plan or Plan()
    size = data.size
    importance = _gaussian(size) if data.overlap else np.ones(size, np.float32)
    tops, *others = (
        starts(length, extent, data.overlap) for length, extent in zip(shape, size, strict=True)
    )
    places = list(itertools.product(*others))
    every = np.ones((len(tops), len(places)), bool)
    kept = every if plan.keep is None else plan.keep.reshape(len(tops), -1)
    total: np.ndarray | None = None
    weight = np.zeros((size[0], *shape[1:]), np.float32)
    rows = zip(tops, kept, strict=True)
    reads = (read(top, top + size[0]) for top, some in rows if some.any())
    bands = one_ahead(reads) if plan.ahead else reads
    for top, following, some in zip(tops, [*tops[1:], shape[0]], kept, strict=True):
        band = next(bands) if some.any() else None
        for place, votes in _drawn(draw, band, places, some, size, plan):
            if total is None:
                total = np.zeros((*votes.shape[:2], *weight.shape), np.float32)
            part = _part(place, size)
            total[part] += votes * importance
            weight[part] += importance
        finished = following - top
        if total is None or not weight[:finished].any():
            yield _background(plan, (finished, *shape[1:]))
        else:
            _divide(total[:, :, :finished], weight[:finished])
            yield total[:, :, :finished]
        if following == shape[0]:
            return
        for kept_rows in (*(() if total is None else total.swapaxes(1, 2)), weight):
            kept_rows[: size[0] - finished] = kept_rows[finished:].copy()
            kept_rows[size[0] - finished :] = 0


def starts(length: int, size: int, overlap: float) -> list[int]:
    """First positions of the windows: evenly spaced, the last one flush with the end."""
    step = max(1, int(size * (1 - overlap)))
    return [*range(0, length - size, step), length - size]


def _drawn(
    draw: Draw,
    band: np.ndarray | None,
    places: Sequence[tuple[int, ...]],
    some: np.ndarray,
    size: tuple[int, ...],
    plan: Plan,
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Place and votes `[V, K, *size]` of each window of a band that is computed.

    Args:
        draw: see `blend`.
        band: the rows of the windows; `None` if no window is computed.
        places: where the windows begin in the band.
        some: whether each window is computed.
        size: size of a window.
        plan: see `blend`.
    """
    together = max(1, VOXELS_AT_ONCE[len(size)] // math.prod(size))
    most = together * plan.at_once if plan.draws else together
    waiting: list[tuple[tuple[int, ...], Any]] = []
    for first in range(0, len(places), together):
        following = places[first : first + together]
        numbers = plan.draws(len(following)) if plan.draws else [None] * len(following)
        pairs = zip(following, numbers, strict=True)
        waiting += itertools.compress(pairs, some[first : first + together])
        last = plan.draws is None or first + together >= len(places)
        while band is not None and waiting and (last or len(waiting) >= most):
            batch, waiting = waiting[:most], waiting[most:]
            windows = [band[_part(place, size)] for place, _ in batch]
            own = [] if plan.draws is None else [[numbers for _, numbers in batch]]
            votes = draw(np.stack(windows), *own)
            for i, (place, _) in enumerate(batch):
                yield place, votes[:, i]


def _part(place: tuple[int, ...], size: tuple[int, ...]) -> Any:
    """Index of the window at a place of a band."""
    return (..., *map(slice, place, np.add(place, size[1:])))


def _divide(total: np.ndarray, weight: np.ndarray) -> None:
    """Turn sums of weighted votes `[V, K, h, *rest]` into votes: background without weight."""
    nothing = weight == 0
    if nothing.any():
        total[:, 0] += nothing
        weight = weight + nothing
    for vote in total:  # one at a time: no second copy of all votes
        vote /= weight


def _background(plan: Plan, shape: tuple[int, ...]) -> np.ndarray:
    """Votes for background alone, `[V, K, h, *rest]`, which take no memory."""
    one_hot = np.zeros((plan.classes, *[1] * len(shape)), np.float32)
    one_hot[0] = 1
    return np.broadcast_to(one_hot, (plan.votes, plan.classes, *shape))


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
