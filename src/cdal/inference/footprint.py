"""How much memory a segmentation will take, found before any of it is taken."""

from __future__ import annotations

import math
from collections.abc import Collection

from cdal.imaging.grid import Frame
from cdal.imaging.rows import LARGE
from cdal.inference.glass import may_have_glass, thumbnail_size
from cdal.inference.voting import SLICES_AT_ONCE
from cdal.recipes.recipe import Recipe
from cdal.runtime.memory import need_memory

_FLOAT = 4
_COPIES, _COPIES_OF_WINDOWS = 3, 1
"""How often votes are held at once: by PyTorch and as an array, and in order if there are mirror
images; those of windows are small beside the band that they are blended into."""

_THUMBNAIL = 3 * (8 + 4)
"""Bytes of a cell of the thumbnail on which glass is found: its sums, and their means."""


def need_room(
    frame: Frame,
    recipe: Recipe,
    classes: int,
    votes: int,
    keep: Collection[str],
    name: str,
    whole: bool = False,
    chosen_later: bool = False,
) -> None:
    """Refuse an image that would take more memory than is free.

    Args:
        frame: frame of the image.
        recipe: recipe of the model.
        classes: number of classes K.
        votes: number of votes V.
        keep: parts of the segmentation that are kept, see `Segmented`.
        name: name of the image.
        whole: whether all of the result stays in memory, however large it is.
        chosen_later: whether the mask is chosen after all votes, see `DataSettings.decision`.

    Raises:
        UserError: it would; the message says what can be changed.
    """
    resampled = "" if frame.unchanged or frame.planar else f" {_spacing(frame)}"
    need_memory(
        bytes_needed(frame, recipe, classes, votes, keep, whole, chosen_later),
        f"{name}: {votes} votes of {classes} classes on {frame.shape} voxels",
        f"Ask for fewer --votes or fewer kinds of results, crop the image, or close other "
        f"programs.{resampled}",
    )


def bytes_needed(
    frame: Frame,
    recipe: Recipe,
    classes: int,
    votes: int,
    keep: Collection[str],
    whole: bool = False,
    chosen_later: bool = False,
) -> int:
    """Bytes that a segmentation takes at least; arguments as for `need_room`.

    The network itself takes more. Its windows are bounded, so this does not grow with the image.
    """
    data = recipe.data
    grid, own, rest = math.prod(frame.shape), math.prod(frame.own), math.prod(frame.shape[1:])
    copies = _COPIES
    if len(frame.shape) > data.spatial_dims:
        rows = min(SLICES_AT_ONCE, frame.shape[0])
        padded = rows * math.prod(map(max, frame.shape[1:], data.size))
    elif all(
        length <= data.whole * size for length, size in zip(frame.shape, data.size, strict=True)
    ):
        padded = math.prod(map(max, frame.shape, data.size))
    else:
        copies = _COPIES_OF_WINDOWS
        padded = data.size[0] * math.prod(map(max, frame.shape[1:], data.size[1:]))
    # The votes of a band, and their mean and spread on the way to the image's grid.
    kept_votes = votes * classes if "votes" in keep else 0
    band = copies * _FLOAT * votes * classes * padded
    ready = _FLOAT * (classes + 1 + kept_votes) * min(padded, max(rest, grid))
    # The image on the network's grid, and its normalised form. Of a larger one, the rows of a band
    # and of the next one are held, and what is ready of a band while the next one is computed.
    image = 2 * _FLOAT * len(frame.image.rows(0, 1)) * (padded if grid > LARGE else grid)
    if grid > LARGE:
        ready *= 2
    if may_have_glass(frame, data):
        image += _THUMBNAIL * math.prod(thumbnail_size(frame.own))
    numbers = {
        "probability": classes,
        "foreground": classes - 1,
        "uncertainty": 1,
        "votes": kept_votes,
    }
    if data.components or chosen_later:
        keep = {*keep, "probability", "uncertainty"}
    # Its rows, and all of them put together.
    result = 2 * own * (1 + _FLOAT * sum(n for name, n in numbers.items() if name in keep))
    if own > LARGE and not whole:  # kept on disk, and written one kind after the other
        result = 0
    return image + band + ready + result


def _spacing(frame: Frame) -> str:
    spacing = tuple(round(float(length), 3) for length in frame.image.like.spacing)
    return f"Its own spacing is {spacing}: is that in millimetres?"
