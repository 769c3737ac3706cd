"""Segmenting a large picture by region: the same overlapping windows and blending as in memory, a band of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

from cdal.data.intensities import Scale
from cdal.data.regions import Regions
from cdal.inference import VOXELS_AT_ONCE, draw_window
from cdal.recipe import DataSettings, Recipe
from cdal.segmenter import Segmenter

_SAMPLE = 2**24
"""Pixels from which a large picture's intensities are measured, in rows at even distances."""

Band = tuple[int, Tensor]
"""The first row, and the votes of some rows, `[V, K, h, W]`."""


def measure(regions: Regions, data: DataSettings, match: Callable[[np.ndarray], np.ndarray], name: str) -> Scale:
    """How the picture's numbers become what the network sees, see `DataSettings.intensities`."""
    height, width = regions.shape
    step = max(1, math.ceil(height * width / _SAMPLE))
    rows = [regions.rows(row, row + 1) for row in range(0, height, step)] if data.intensities == "image" else [regions.rows(0, 1)]
    return Scale.of(torch.from_numpy(match(np.concatenate(rows, axis=1))), data.intensities, regions.stored, name)


def stream_votes(
    segmenter: Segmenter,
    regions: Regions,
    scale: Scale,
    match: Callable[[np.ndarray], np.ndarray],
    recipe: Recipe,
    votes: int,
    rng: torch.Generator,
    on_band: Callable[[float], object] = lambda _: None,
) -> Iterator[Band]:
    """Votes for a picture, a band of rows after the other, from the top.

    Memory grows with the picture's width and the number of votes, not with its height.

    Args:
        segmenter: in evaluation mode.
        regions: the picture, at least as large as a window.
        scale: see `measure`.
        match: brings rows to the channels that the model expects.
        recipe: what the segmenter was trained with.
        votes: V.
        rng: the source of every random draw.
        on_band: called after each band with the share that is done.
    """
    data = recipe.data
    (height, width), (rows, columns) = regions.shape, data.size
    mode = "gaussian" if data.overlap else "constant"
    importance = compute_importance_map((rows, columns), mode=mode, sigma_scale=0.125).float()
    importance = importance.clamp_min(max(float(importance[importance > 0].min()), 1e-3))
    tops, lefts = _starts(height, rows, data.overlap), _starts(width, columns, data.overlap)
    at_once = max(1, VOXELS_AT_ONCE // (rows * columns))
    total: Tensor | None = None
    weight = torch.zeros(rows, width)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        band = scale.apply(torch.from_numpy(match(regions.rows(top, top + rows))))
        for some in [lefts[i : i + at_once] for i in range(0, len(lefts), at_once)]:
            windows = torch.stack([band[:, :, left : left + columns] for left in some])
            drawn = draw_window(segmenter, windows, recipe, votes, rng)
            if total is None:
                total = torch.zeros(drawn.shape[0], drawn.shape[2], rows, width)
            for i, left in enumerate(some):
                total[..., left : left + columns] += drawn[:, i] * importance
                weight[:, left : left + columns] += importance
        assert total is not None  # there is a window at least
        finished = following - top
        yield top, total[:, :, :finished] / weight[:finished]
        total[:, :, : rows - finished] = total[:, :, finished:].clone()
        total[:, :, rows - finished :] = 0
        weight[: rows - finished] = weight[finished:].clone()
        weight[rows - finished :] = 0
        on_band(following / height)


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Where windows begin: at even distances, the last one flush with the end."""
    step = max(1, int(size * (1 - overlap)))
    return [*range(0, length - size, step), length - size]
