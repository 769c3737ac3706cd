"""Votes for one case of any size: flips, slices, padding and sliding windows, the same for every segmenter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor

from cdal.data.cases import slices_with_neighbours
from cdal.devices import wants_bf16
from cdal.recipe import DataSettings, Recipe
from cdal.segmenter import Segmenter

SLICES_AT_ONCE = 32

VOXELS_AT_ONCE = 2**17
"""Windows are segmented as many at once as hold this many voxels, but at least one."""

_Draw = Callable[[Tensor], Tensor]


def draw_votes(segmenter: Segmenter, image: Tensor, recipe: Recipe, votes: int, rng: torch.Generator) -> Tensor:
    """Votes for a case on the network's grid.

    Args:
        segmenter: in evaluation mode.
        image: `[C, *S]`, normalised. With two axes in the recipe and three here, it is cut into slices.
        recipe: what the segmenter was trained with.
        votes: V, see `votes_drawn`.
        rng: the source of every random draw.

    Returns:
        Probabilities `[V, K, *S]` on the CPU, float32.
    """
    data = recipe.data
    multiple = recipe.segmenter.multiple(data)

    def draw(x: Tensor) -> Tensor:
        return draw_window(segmenter, x, recipe, votes, rng)

    if image.dim() - 1 == data.spatial_dims:
        return _in_windows(draw, image[None], data, multiple)[:, 0]
    count = image.shape[1 + data.slice_axis]
    chunks = torch.arange(count).split(SLICES_AT_ONCE)
    drawn = [_in_windows(draw, slices_with_neighbours(image, data, chunk), data, multiple) for chunk in chunks]
    return torch.cat(drawn, dim=1).movedim(1, 2 + data.slice_axis)


def draw_window(segmenter: Segmenter, window: Tensor, recipe: Recipe, votes: int, rng: torch.Generator) -> Tensor:
    """Votes for pictures or volumes that the network sees in one piece, `[B, C, *S] -> [V, B, K, *S]`, on the CPU, float32.

    Vote v sees the image through flip number v mod n of the n that the recipe allows. The network computes in the recipe's
    precision, as at validation.
    """
    by_flip = []
    for flip, share in votes_by_flip(segmenter, recipe, votes):
        seen = window.flip([2 + axis for axis in flip]).to(segmenter.device)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=wants_bf16(recipe.training.precision, seen.device)):
            drawn = segmenter.sample(seen, share, rng).float().cpu()
        by_flip.append(drawn.flip([3 + axis for axis in flip]))
    count = len(by_flip)
    return torch.stack([by_flip[v % count][v // count] for v in range(sum(map(len, by_flip)))])


def votes_by_flip(segmenter: Segmenter, recipe: Recipe, votes: int) -> list[tuple[tuple[int, ...], int]]:
    """The mirror images that are segmented, and how many votes are drawn of each."""
    flips = _flip_sets(recipe.data.flips)
    votes = votes_drawn(segmenter, recipe, votes)
    return [(flip, len(range(i, votes, len(flips)))) for i, flip in enumerate(flips[:votes])]


def votes_drawn(segmenter: Segmenter, recipe: Recipe, votes: int) -> int:
    """How many votes V asked for give: without chance, one for each flip and no more, as further ones repeat them."""
    return votes if segmenter.stochastic else min(votes, len(_flip_sets(recipe.data.flips)))


def _flip_sets(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every combination of mirror images, none first."""
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def _in_windows(draw: _Draw, image: Tensor, data: DataSettings, multiple: int) -> Tensor:
    """Pad, draw in one piece or in windows, and cut the padding off again, `[B, C, *S] -> [V, B, K, *S]`."""
    space, size = image.shape[2:], data.size
    target = [max(math.ceil(s / multiple) * multiple, p) for s, p in zip(space, size, strict=True)]
    whole = all(t <= data.whole * p for t, p in zip(target, size, strict=True))
    if not whole:  # windows have the right multiples by themselves
        target = [max(s, p) for s, p in zip(space, size, strict=True)]
    missing = [t - s for t, s in zip(target, space, strict=True)]
    before = [m // 2 for m in missing]
    pads = [pad for m, b in zip(reversed(missing), reversed(before), strict=True) for pad in (b, m - b)]
    padded = F.pad(image, pads, mode="replicate")
    votes = draw(padded) if whole else _sliding(draw, padded, data)
    inside = (slice(None),) * 3 + tuple(slice(b, b + s) for b, s in zip(before, space, strict=True))
    return votes[inside]


def _sliding(draw: _Draw, image: Tensor, data: DataSettings) -> Tensor:
    """Overlapping windows, blended with a Gaussian; votes travel as channels, which is what MONAI's windows know."""
    votes = 0

    def window(x: Tensor) -> Tensor:
        nonlocal votes
        drawn = draw(x)
        votes = len(drawn)
        return drawn.movedim(0, 1).flatten(1, 2)

    at_once = max(1, VOXELS_AT_ONCE // math.prod(data.size))
    mode = "gaussian" if data.overlap else "constant"
    blended = sliding_window_inference(image, data.size, at_once, window, overlap=data.overlap, mode=mode)
    assert isinstance(blended, Tensor)
    return blended.unflatten(1, (votes, -1)).movedim(1, 0)
