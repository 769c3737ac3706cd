"""Random draws of segmenters: those of a whole batch, of which a rank takes its slice.

Several ranks that train together have slices of one batch. Each draws the numbers of the whole
batch and keeps its own, so the numbers of a sample do not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class SliceGenerator(torch.Generator):
    """A generator of a rank that has a slice of the batch; made by `slice_generator`.

    Attributes:
        rank: number of the rank.
        ranks: number of ranks.
        images: images of the slice.
    """

    rank: int
    ranks: int
    images: int


def slice_generator(rng: torch.Generator, rank: int, ranks: int, images: int) -> torch.Generator:
    """A generator whose draws below are the slices of those of `rng`, which is not moved.

    Args:
        rng: generator of the whole batch, not yet used.
        rank: number of the rank.
        ranks: number of ranks; with one the generator itself is returned.
        images: images of the slice.
    """
    if ranks == 1:
        return rng
    sliced = SliceGenerator(rng.device)
    sliced.manual_seed(rng.initial_seed())
    sliced.rank, sliced.ranks, sliced.images = rank, ranks, images
    return sliced


def randn(
    shape: tuple[int, ...] | torch.Size, rng: torch.Generator, like: Tensor, axis: int = 0
) -> Tensor:
    """Draw standard normal numbers, on the device and in the dtype of `like`.

    Args:
        shape: shape of the result.
        rng: random generator.
        like: tensor whose device and dtype the result gets.
        axis: axis of the samples: the images, for each vote or annotator again.
    """
    drawn = _drawn(
        lambda size: torch.randn(size, generator=rng, device=rng.device), shape, rng, axis
    )
    return drawn.to(like.device, like.dtype)


def rand(shape: tuple[int, ...] | torch.Size, rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw float32 numbers from 0 to 1, on the device of `like`; the first axis is the samples'."""
    drawn = _drawn(lambda size: torch.rand(size, generator=rng, device=rng.device), shape, rng)
    return drawn.to(like.device)


def randint(low: int, high: int, samples: int, rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw a whole number from `low` to `high` - 1 for each sample, on the device of `like`."""
    drawn = _drawn(
        lambda size: torch.randint(low, high, size, generator=rng, device=rng.device),
        (samples,),
        rng,
    )
    return drawn.to(like.device)


def _drawn(
    draw: Callable[[tuple[int, ...]], Tensor],
    shape: tuple[int, ...] | torch.Size,
    rng: torch.Generator,
    axis: int = 0,
) -> Tensor:
    if not isinstance(rng, SliceGenerator):
        return draw(tuple(shape))
    whole = list(shape)
    whole[axis] *= rng.ranks
    by_rank = draw(tuple(whole)).unflatten(axis, (-1, rng.ranks, rng.images))
    return by_rank.select(axis + 1, rng.rank).flatten(axis, axis + 1)
