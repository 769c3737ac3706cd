"""Votes for one case of any size: mirror images, slices, padding and windows, the same for every segmenter and every engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cdal.imaging.slices import slices_with_neighbours
from cdal.inference.engine import Engine
from cdal.inference.windows import Draw, blend
from cdal.recipes.recipe import DataSettings, Recipe

SLICES_AT_ONCE = 32


def draw_votes(engine: Engine, image: np.ndarray, recipe: Recipe, votes: int, rng: Any) -> np.ndarray:
    """Votes for a case on the network's grid.

    Args:
        engine: computes the segmenter.
        image: `[C, *S]`, normalised. With two axes in the recipe and three here, it is cut into slices.
        recipe: what the segmenter was trained with.
        votes: V, see `votes_drawn`.
        rng: the engine's source of random draws.

    Returns:
        Probabilities `[V, K, *S]`, float32.
    """
    data = recipe.data
    multiple = recipe.segmenter.multiple(data)
    draw = drawer(engine, recipe, votes, rng)
    if image.ndim - 1 == data.spatial_dims:
        return _in_windows(draw, image[None], data, multiple)[:, 0]
    count = image.shape[1 + data.slice_axis]
    chunks = [np.arange(count)[i : i + SLICES_AT_ONCE] for i in range(0, count, SLICES_AT_ONCE)]
    drawn = [_in_windows(draw, slices_with_neighbours(image, data, chunk), data, multiple) for chunk in chunks]
    return np.moveaxis(np.concatenate(drawn, axis=1), 1, 2 + data.slice_axis)


def drawer(engine: Engine, recipe: Recipe, votes: int, rng: Any) -> Draw:
    """Votes for pictures or volumes that the network sees in one piece, `[B, C, *S] -> [V, B, K, *S]`.

    Vote v sees the image through mirror image number v mod n of the n that the recipe asks for.
    """

    def draw(window: np.ndarray) -> np.ndarray:
        by_mirror = []
        for mirror, share in votes_by_mirror(engine, recipe, votes):
            seen = np.flip(window, tuple(2 + axis for axis in mirror))
            by_mirror.append(np.flip(engine.sample(seen, share, rng), tuple(3 + axis for axis in mirror)))
        count = len(by_mirror)
        if count == 1:
            return by_mirror[0]
        return np.stack([by_mirror[v % count][v // count] for v in range(sum(map(len, by_mirror)))])

    return draw


def votes_by_mirror(engine: Engine, recipe: Recipe, votes: int) -> list[tuple[tuple[int, ...], int]]:
    """The axes of each mirror image that is segmented, none of them first, and how many votes are drawn of it."""
    mirrors = recipe.data.mirrors
    votes = votes_drawn(engine, recipe, votes)
    return [(mirror, len(range(i, votes, len(mirrors)))) for i, mirror in enumerate(mirrors[:votes])]


def votes_drawn(engine: Engine, recipe: Recipe, votes: int) -> int:
    """How many votes V asked for give: without chance, one for each mirror image and no more, as further ones repeat them."""
    return votes if engine.stochastic else min(votes, len(recipe.data.mirrors))


def _in_windows(draw: Draw, images: np.ndarray, data: DataSettings, multiple: int) -> np.ndarray:
    """Pad, draw in one piece or in windows, and cut the padding off again, `[B, C, *S] -> [V, B, K, *S]`."""
    space, size = images.shape[2:], data.size
    target = [max(math.ceil(s / multiple) * multiple, p) for s, p in zip(space, size, strict=True)]
    whole = all(t <= data.whole * p for t, p in zip(target, size, strict=True))
    if not whole:  # windows have the right multiples by themselves
        target = [max(s, p) for s, p in zip(space, size, strict=True)]
    missing = [t - s for t, s in zip(target, space, strict=True)]
    before = [m // 2 for m in missing]
    padded = np.pad(images, [(0, 0), (0, 0), *((b, m - b) for b, m in zip(before, missing, strict=True))], mode="edge")
    if whole:
        votes = draw(padded)
    else:
        bands = ([band for _, band in blend(draw, _reader(image), image.shape[1:], data)] for image in padded)
        votes = np.stack([np.concatenate(one, axis=2) for one in bands], axis=1)
    inside = (slice(None),) * 3 + tuple(slice(b, b + s) for b, s in zip(before, space, strict=True))
    return votes[inside]


def _reader(image: np.ndarray) -> Any:
    return lambda start, stop: image[:, start:stop]
