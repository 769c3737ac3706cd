"""Votes for one case of any size: mirror images, slices, padding and windows.

This is the same for every segmenter and every engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cdal.imaging.position import with_positions
from cdal.imaging.slices import slices_with_neighbours
from cdal.inference.engine import Engine
from cdal.inference.ensemble_engine import EnsembleEngine
from cdal.inference.windows import Plan, Read, blend
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError

SLICES_AT_ONCE = 32


def draw_votes(
    engine: Engine, image: np.ndarray, recipe: Recipe, votes: int, rng: Any
) -> np.ndarray:
    """Votes for a case on the network's grid.

    Args:
        engine: engine that computes the segmenter.
        image: normalised image `[C, *S]`. A volume is cut into slices for a network of two axes.
        recipe: recipe of the segmenter.
        votes: number of votes V, see `votes_drawn`.
        rng: random generator of the engine.

    Returns:
        Probabilities `[V, K, *S]`, float32.

    Raises:
        UserError: a vote is not finite.
    """
    axis = recipe.data.slice_axis if image.ndim - 1 > recipe.data.spatial_dims else 0
    turned = np.moveaxis(image, 1 + axis, 1)
    drawn: np.ndarray | None = None
    top = 0
    for band in vote_bands(
        engine, lambda start, stop: turned[:, start:stop], turned.shape[1:], recipe, votes, rng
    ):
        if band.shape[2] == turned.shape[1]:
            drawn = band
        else:
            drawn = (
                np.empty((*band.shape[:2], *turned.shape[1:]), np.float32)
                if drawn is None
                else drawn
            )
            drawn[:, :, top : top + band.shape[2]] = band
        top += band.shape[2]
    assert drawn is not None  # every image has a row
    return np.moveaxis(drawn, 2, 2 + axis)


def vote_bands(
    engine: Engine,
    read: Read,
    shape: tuple[int, ...],
    recipe: Recipe,
    votes: int,
    rng: Any,
    plan: Plan | None = None,
) -> Iterator[np.ndarray]:
    """As `draw_votes`, some rows at a time.

    Args:
        engine: see `draw_votes`.
        read: reads rows of the image; called with overlapping ranges.
        shape: shape of the image. The first axis counts the rows; for a network that sees slices of
            a volume, a row is a slice.
        recipe: see `draw_votes`.
        votes: see `draw_votes`.
        rng: see `draw_votes`.
        plan: how the windows of a picture are computed, without `draws`.

    Yields:
        Votes of the next rows, `[V, K, h, *rest]`. The array may be reused for the next rows.
    """
    data = recipe.data
    draw = Drawer(engine, recipe, votes, rng)
    multiple = recipe.segmenter.multiple(data)
    if len(shape) == data.spatial_dims:
        yield from _bands(draw, read, shape, data, multiple, plan)
        return
    for first in range(0, shape[0], SLICES_AT_ONCE):
        stop = min(shape[0], first + SLICES_AT_ONCE)
        low = max(0, first - data.neighbours)
        volume = read(low, min(shape[0], stop + data.neighbours))
        pictures = slices_with_neighbours(
            volume, 0, data.neighbours, np.arange(first - low, stop - low)
        )
        if _whole(shape[1:], data, multiple):
            yield np.moveaxis(_in_one_piece(draw, pictures, data, multiple), 1, 2)
            continue
        for picture in pictures:

            def rows(start: int, stop: int, picture: np.ndarray = picture) -> np.ndarray:
                return picture[:, start:stop]

            bands = _bands(draw, rows, shape[1:], data, multiple)
            yield np.concatenate([band.copy() for band in bands], axis=2)[:, :, None]


class Drawer:
    """Draws votes for a batch of images, `[B, C, *S] -> [V, B, K, *S]`.

    Vote v sees mirror image number v mod n of the n that the recipe asks for; in an ensemble, vote
    v of each member does.

    Args:
        engine: engine that computes the segmenter.
        recipe: recipe of the segmenter.
        votes: number of votes V, see `votes_drawn`.
        rng: random generator of the engine.
    """

    def __init__(self, engine: Engine, recipe: Recipe, votes: int, rng: Any) -> None:
        self.engine, self.recipe, self.votes, self.rng = engine, recipe, votes, rng
        self._members = (
            [
                Drawer(member, recipe, share, own)
                for member, share, own in zip(
                    engine.members, engine.shares(votes), rng, strict=True
                )
            ]
            if isinstance(engine, EnsembleEngine)
            else []
        )

    def draws(self, images: int) -> list[Any]:
        """Draw the random numbers for so many windows; returns those of each.

        The engine must be able to, see `Engine.draw`.
        """
        if self._members:
            parts = [member.draws(images) for member in self._members]
        else:
            shares = votes_by_mirror(self.engine, self.recipe, self.votes)
            size = self.recipe.data.size
            parts = [self.engine.draw(size, images, share, self.rng) for _, share in shares]
        return list(zip(*parts, strict=True))

    def __call__(self, window: np.ndarray, draws: Sequence[Any] | None = None) -> np.ndarray:
        """Draw votes.

        Args:
            window: images `[B, C, *S]`.
            draws: what `draws` gave for each of them; drawn now if `None`.

        Raises:
            UserError: a vote is not finite.
        """
        if isinstance(self.engine, EnsembleEngine):
            numbers = _by_part(draws, len(self._members))
            return self.engine.together(
                lambda _member, _share, own: own[0](window, own[1]),
                self.votes,
                tuple(zip(self._members, numbers, strict=True)),
            )
        by_mirror = []
        shares = votes_by_mirror(self.engine, self.recipe, self.votes)
        for (mirror, share), own in zip(shares, _by_part(draws, len(shares)), strict=True):
            seen = np.flip(window, tuple(2 + axis for axis in mirror))
            seen = with_positions(seen) if self.recipe.data.position else seen
            given = () if own is None else (own,)
            drawn = self.engine.sample(seen, share, self.rng, *given)
            if not np.isfinite(drawn).all():
                raise UserError(
                    "the model's votes are NaN or infinite. Is the image of the kind that the "
                    "model was trained on, and the model's file whole?"
                )
            by_mirror.append(np.flip(drawn, tuple(3 + axis for axis in mirror)))
        count = len(by_mirror)
        if count == 1:
            return by_mirror[0]
        return np.stack([by_mirror[v % count][v // count] for v in range(sum(map(len, by_mirror)))])


def _by_part(draws: Sequence[Any] | None, parts: int) -> Sequence[Any]:
    """The numbers of each member or mirror image for all images, from those of each image."""
    return [None] * parts if draws is None else list(zip(*draws, strict=True))


def votes_by_mirror(
    engine: Engine, recipe: Recipe, votes: int
) -> list[tuple[tuple[int, ...], int]]:
    """Axes of each mirror image, and its number of votes; the first is the image itself."""
    mirrors = recipe.data.mirrors
    votes = votes_drawn(engine, recipe, votes)
    return [
        (mirror, len(range(i, votes, len(mirrors)))) for i, mirror in enumerate(mirrors[:votes])
    ]


def votes_drawn(engine: Engine, recipe: Recipe, votes: int) -> int:
    """Number of votes that are drawn if V are requested.

    A deterministic segmenter has one vote for each mirror image, because further ones would repeat
    them. An ensemble of such segmenters has as many for each member.

    Raises:
        UserError: an ensemble has more members than votes.
    """
    members = len(engine.shares(votes)) if isinstance(engine, EnsembleEngine) else 1
    return votes if engine.stochastic else min(votes, members * len(recipe.data.mirrors))


def _whole(space: tuple[int, ...], data: DataSettings, multiple: int) -> bool:
    """Whether an image is small enough to be segmented in one piece."""
    return all(
        s <= data.whole * p for s, p in zip(_padded(space, data, multiple), data.size, strict=True)
    )


def _padded(space: tuple[int, ...], data: DataSettings, multiple: int) -> list[int]:
    """Size after padding: multiples that the network needs, and a window at least."""
    return [
        max(math.ceil(s / multiple) * multiple, p) for s, p in zip(space, data.size, strict=True)
    ]


def _in_one_piece(
    draw: Drawer, images: np.ndarray, data: DataSettings, multiple: int
) -> np.ndarray:
    """Pad, draw, and cut the padding off again, `[B, C, *S] -> [V, B, K, *S]`."""
    space = images.shape[2:]
    before, after = _margins(space, _padded(space, data, multiple))
    votes = draw(np.pad(images, [(0, 0), (0, 0), *zip(before, after, strict=True)], mode="edge"))
    return votes[
        (slice(None),) * 3 + tuple(slice(b, b + s) for b, s in zip(before, space, strict=True))
    ]


def _bands(
    draw: Drawer,
    read: Read,
    shape: tuple[int, ...],
    data: DataSettings,
    multiple: int,
    plan: Plan | None = None,
) -> Iterator[np.ndarray]:
    """Votes for one image, in one piece or in windows, `[V, K, h, *rest]`."""
    if _whole(shape, data, multiple):
        yield _in_one_piece(draw, read(0, shape[0])[None], data, multiple)[:, 0]
        return
    if data.position:
        raise UserError(
            f"the model looks at pictures of {' x '.join(map(str, data.size))} whole, which were "
            f"cut around their object; this one has {' x '.join(map(str, shape))}. Cut it so."
        )
    target = [
        max(s, p) for s, p in zip(shape, data.size, strict=True)
    ]  # windows have the multiples that the network needs
    before, after = _margins(shape, target)
    draws = draw.draws if draw.engine.draws_apart else None
    count = votes_drawn(draw.engine, draw.recipe, draw.votes)
    plan = replace(plan or Plan(), draws=draws, votes=count, at_once=draw.engine.at_once)

    def padded(start: int, stop: int) -> np.ndarray:
        low, high = max(0, start - before[0]), min(shape[0], stop - before[0])
        rows = read(low, high)
        above = (low - (start - before[0]), (stop - before[0]) - high)
        return np.pad(rows, [(0, 0), above, *zip(before[1:], after[1:], strict=True)], mode="edge")

    inside = tuple(slice(b, b + s) for b, s in zip(before[1:], shape[1:], strict=True))
    if before[0] or after[0]:  # the image is less high than a window
        (band,) = blend(draw, padded, tuple(target), data, plan)
        yield band[:, :, before[0] : before[0] + shape[0]][(slice(None),) * 3 + inside]
        return
    for band in blend(draw, padded, tuple(target), data, plan):
        yield band[(slice(None),) * 3 + inside]


def _margins(space: tuple[int, ...], target: list[int]) -> tuple[list[int], list[int]]:
    """Padding before and after the image, along each axis."""
    missing = [t - s for t, s in zip(target, space, strict=True)]
    before = [m // 2 for m in missing]
    return before, [m - b for b, m in zip(before, missing, strict=True)]
