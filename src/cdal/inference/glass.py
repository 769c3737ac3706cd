"""Which windows of a stained slide show nothing but glass, so that no network has to see them.

Glass holds nothing to segment, and a network that has learned on tissue alone has no answer for it.
An area is left out only if all of this holds; else every window is computed:

- The picture is a picture of three colours with 8 bits, of `LARGE` pixels or more, and the model
  sees it at its own resolution, in windows.
- On a thumbnail, whose cells are means of 16 pixels a side, the cells form two classes (Otsu, IEEE
  Trans. Syst. Man Cybern. 1979) by their smallest channel. A stain of any colour lowers it, and so
  does darkness. The lighter class is bright, without colour and nearly uniform, as only the light
  of an empty slide is. Pale tissue is neither, and a fluorescent or gray picture has no such class.
- A cell is glass if it is as light as that class, up to a few gray levels. All others are tissue,
  and so is what lies nearer to them than windows overlap, at least a quarter of a window.

A window is computed if any pixel of it is tissue. Pixels that no computed window covers are
background: with a probability of 1 in every vote, so with an uncertainty of 0.

Some windows of glass are computed nevertheless, as a check. A model that finds its classes in a
good part of them was made to, and then none is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.imaging.intensities import is_gray
from cdal.imaging.reduce import reduced
from cdal.imaging.rows import LARGE
from cdal.inference.decision import decide
from cdal.inference.windows import Read, starts
from cdal.recipes.recipe import DataSettings

_CELL, _COARSE_CELL, _MOST_FINE = 16, 32, 2**30
"""Pixels a side of a cell of the thumbnail, and those of a picture with more than so many."""

_BRIGHT, _COLOUR, _UNEVEN = 200, 20, 4.0
"""Glass has at least this level in each channel, its channels differ by at most so much, and its
cells by at most this deviation."""

_TOLERANCE, _DEVIATIONS = (5.0, 10.0), 4.0
"""How much darker than the median glass may be: so many deviations, within these gray levels."""

_CHECKED, _FOUND = 4, 0.25
"""Windows of glass that are computed as a check, and the share of their pixels that a model made
for tissue keeps below: on glass, which they have never seen, models find a few percent."""

_LEAST_MARGIN = 0.25
"""Least margin around tissue, in windows."""


@dataclass(frozen=True)
class Kept:
    """The windows of a picture that are computed.

    Attributes:
        windows: whether each window is, by its place along both axes, `[rows, columns]`.
        skipped: share of the picture's pixels that no computed window covers.
    """

    windows: np.ndarray
    skipped: float


def thumbnail_size(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the thumbnail of a picture."""
    cell = _CELL if math.prod(shape) <= _MOST_FINE else _COARSE_CELL
    return shape[0] // cell, shape[1] // cell


def may_have_glass(frame: Frame, data: DataSettings) -> bool:
    """Whether an image is a large picture in colours that the model sees in windows.

    Args:
        frame: frame of the image.
        data: settings of the recipe.
    """
    return (
        frame.planar
        and frame.unchanged
        and math.prod(frame.own) >= LARGE
        and min(frame.own) >= _COARSE_CELL
        and frame.image.stored == np.uint8
        and len(frame.image.rows(0, 1)) == 3
        and not data.position
        and all(s >= p for s, p in zip(frame.own, data.size, strict=True))
        and any(s > data.whole * p for s, p in zip(frame.own, data.size, strict=True))
    )


def tissue(thumbnail: np.ndarray) -> np.ndarray | None:
    """Find tissue on the thumbnail of a stained slide.

    Args:
        thumbnail: means of red, green and blue from 0 to 255, `[3, H, W]`.

    Returns:
        Whether each cell is tissue, `[H, W]`; `None` if the picture shows no glass.
    """
    if is_gray(Image(thumbnail, stored=np.dtype(np.uint8))):
        return None
    lowest = thumbnail.min(axis=0)
    if lowest.min() == lowest.max():
        return None
    light = lowest > threshold_otsu(lowest)
    colour = np.median(thumbnail[:, light], axis=1)
    level = float(np.median(lowest[light]))
    uneven = 1.4826 * float(np.median(np.abs(lowest[light] - level)))
    if colour.min() < _BRIGHT or np.ptp(colour) > _COLOUR or uneven > _UNEVEN:
        return None
    return np.asarray(lowest < level - np.clip(_DEVIATIONS * uneven, *_TOLERANCE))


def windows_to_keep(frame: Frame, data: DataSettings) -> Kept | None:
    """Find the windows of a picture that show tissue.

    Args:
        frame: frame of the image.
        data: settings of the recipe.

    Returns:
        `None` if all of them have to be computed.
    """
    if not may_have_glass(frame, data):
        return None
    shape, size = (frame.own[0], frame.own[1]), (data.size[0], data.size[1])
    cells = tissue(reduced(frame.image, thumbnail_size(shape)))
    if cells is None:
        return None
    margins = [max(data.overlap, _LEAST_MARGIN) * length for length in size]
    reach = [
        2 * math.ceil(margin * count / length) + 1
        for margin, count, length in zip(margins, cells.shape, shape, strict=True)
    ]
    near = ndimage.maximum_filter(cells, reach, mode="constant")
    places = [starts(s, p, data.overlap) for s, p in zip(shape, size, strict=True)]
    windows = _any_inside(near, shape, places, size)
    if windows.all():
        return None
    return Kept(windows, 1 - _covered(windows, shape, places, size) / math.prod(shape))


def looks_for_glass(
    draw: Callable[[np.ndarray], np.ndarray],
    read: Read,
    kept: Kept,
    shape: Sequence[int],
    data: DataSettings,
) -> bool:
    """Whether a model finds its classes in what it would not see.

    Args:
        draw: draws votes for a batch of windows.
        read: reads rows of the image as the network sees it.
        kept: the windows that are computed.
        shape: shape of the image.
        data: settings of the recipe.
    """
    others = np.argwhere(~kept.windows)
    chosen = others[np.linspace(0, len(others) - 1, min(_CHECKED, len(others))).astype(int)]
    tops, lefts = (starts(s, p, data.overlap) for s, p in zip(shape, data.size, strict=True))
    found = 0.0
    for row, column in chosen:
        top, left = tops[row], lefts[column]
        window = read(top, top + data.size[0])[:, :, left : left + data.size[1]]
        found += float((decide(draw(window[None])[:, 0].mean(axis=0)) > 0).mean())
    return found > _FOUND * len(chosen)


def _any_inside(
    cells: np.ndarray, shape: Sequence[int], places: Sequence[Sequence[int]], size: Sequence[int]
) -> np.ndarray:
    """Whether any cell of each window is set, `[rows, columns]`."""
    sums = np.pad(cells.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    first, last = (
        [
            (np.array(begins) + ahead) * count // length + (1 if ahead else 0)
            for begins, count, length, ahead in zip(places, cells.shape, shape, steps, strict=True)
        ]
        for steps in ((0, 0), (size[0] - 1, size[1] - 1))
    )
    corners = [
        sums[np.ix_(rows, columns)]
        for rows in (first[0], last[0])
        for columns in (first[1], last[1])
    ]
    return np.asarray(corners[3] - corners[1] - corners[2] + corners[0] > 0)


def _covered(
    windows: np.ndarray, shape: Sequence[int], places: Sequence[Sequence[int]], size: Sequence[int]
) -> int:
    """Number of pixels that some of the windows cover."""
    tops = np.array(places[0])
    columns = np.zeros((len(tops), shape[1]), bool)
    for row, column in np.argwhere(windows):
        columns[row, places[1][column] : places[1][column] + size[1]] = True
    edges = sorted({*tops.tolist(), *(tops + size[0]).tolist()})
    return sum(
        (stop - start) * int(columns[(tops <= start) & (tops + size[0] >= stop)].any(axis=0).sum())
        for start, stop in itertools.pairwise(edges)
    )
