"""Filling polygons.

Coordinates are in pixels: x to the right, y down, and (0, 0) is the top left corner of the top left
pixel. A pixel is inside if its centre, (column + 0.5, row + 0.5), is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cdal.imaging.annotations import Segment
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

FARTHEST = 1e7
"""Largest coordinate, in pixels; a larger one is damage, or not in pixels."""

_AT_ONCE = 2**22
"""Pixels, and crossings of rows and edges, that are worked on at a time."""


def fill(name: str, rings: Sequence[np.ndarray], shape: tuple[int, int]) -> Segment:
    """Fill the area between rings by the even-odd rule: a ring within a ring is a hole.

    A centre on an edge belongs to the polygon on its right (or below), so that polygons with a
    common edge share no pixel.

    Args:
        name: name of the segment.
        rings: rings `[N, 2]` of x and y in pixels, closed or not. Rings of less than three points
            enclose nothing.
        shape: rows and columns of the image; what lies outside is cut off.

    Raises:
        UserError: a coordinate is not finite, or absurdly large.
    """
    points = [need_points(ring) for ring in rings]
    points = [ring for ring in points if len(ring) > 2]
    if not points:
        return nothing(name, 2)
    corners = np.concatenate(points)
    size = np.array(shape[::-1])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, size).astype(int)
    if right <= left or bottom <= top:
        return nothing(name, 2)
    starts = corners - (left, top)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in points]) - (left, top)
    width, height = right - left, bottom - top
    inside = np.empty((height, width), bool)
    band = max(1, _AT_ONCE // (width + 1))
    for start in range(0, height, band):
        stop = min(height, start + band)
        inside[start:stop] = _filled(starts, ends, start, stop, width)
    return Segment(name, (slice(top, bottom), slice(left, right)), inside)


def _filled(starts: np.ndarray, ends: np.ndarray, start: int, stop: int, width: int) -> np.ndarray:
    """Fill rows `start` to `stop`: a pixel is inside if an odd number of edges is left of it."""
    # From top to bottom, so that an edge is computed alike for the polygons on both its sides.
    down = (starts[:, 1] <= ends[:, 1])[:, None]
    starts, ends = np.where(down, starts, ends), np.where(down, ends, starts)
    lower, upper = starts[:, 1], ends[:, 1]
    # An edge crosses the rows whose centre is at its upper end or above its lower end.
    first = np.clip(np.ceil(lower - 0.5), start, stop).astype(int)
    last = np.clip(np.ceil(upper - 0.5), start, stop).astype(int)
    counts = last - first
    crossed = np.flatnonzero(counts)
    changes = np.zeros((stop - start) * (width + 1), np.int64)
    parts = 1 + int(counts.sum()) // _AT_ONCE
    for edges in np.array_split(crossed, parts):
        if not len(edges):
            continue
        number = counts[edges]
        rows = np.arange(number.sum()) + np.repeat(
            first[edges] - np.concatenate([[0], number.cumsum()[:-1]]), number
        )
        slope = (ends[edges, 0] - starts[edges, 0]) / (ends[edges, 1] - starts[edges, 1])
        x = np.repeat(starts[edges, 0], number) + (
            rows + 0.5 - np.repeat(starts[edges, 1], number)
        ) * np.repeat(slope, number)
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
        changes += np.bincount((rows - start) * (width + 1) + columns, minlength=len(changes))
    odd = (changes & 1).astype(bool).reshape(stop - start, width + 1)
    return np.asarray(np.logical_xor.accumulate(odd, axis=1)[:, :-1])


def fill_parts(
    name: str, polygons: Sequence[Sequence[np.ndarray]], shape: tuple[int, int]
) -> Segment:
    """Fill several polygons, each with its rings, as one segment; where they overlap is inside."""
    return together(name, [fill(name, rings, shape) for rings in polygons])


def together(name: str, parts: Sequence[Segment]) -> Segment:
    """Return one segment of everything inside one of several segments of a picture."""
    parts = [part for part in parts if part.inside.size]
    if not parts:
        return nothing(name, 2)
    if len(parts) == 1:
        return parts[0]
    box = tuple(
        slice(min(p.box[axis].start for p in parts), max(p.box[axis].stop for p in parts))
        for axis in range(2)
    )
    inside = np.zeros(tuple(part.stop - part.start for part in box), bool)
    for part in parts:
        offset = tuple(
            slice(own.start - whole.start, own.stop - whole.start)
            for own, whole in zip(part.box, box, strict=True)
        )
        inside[offset] |= part.inside
    return Segment(name, box, inside)


def ellipse(
    name: str,
    centre: tuple[float, float],
    radii: tuple[float, float],
    shape: tuple[int, int],
    turn: float = 0.0,
) -> Segment:
    """Fill an ellipse.

    Args:
        name: name of the segment.
        centre: x and y of the centre, in pixels.
        radii: radius along x and along y, in pixels.
        shape: rows and columns of the image.
        turn: angle in degrees by which it is turned, clockwise as it is seen.

    Raises:
        UserError: as for `fill`.
    """
    (x0, y0), (along, across) = need_points(np.array([centre, radii]))
    reach = max(along, across) if turn % 180 else None
    box = rectangle(
        name,
        np.array(
            [
                [x0 - (reach or along), y0 - (reach or across)],
                [x0 + (reach or along), y0 + (reach or across)],
            ]
        ),
        shape,
    )
    if not box.inside.size or min(along, across) <= 0:
        return nothing(name, 2)
    y, x = np.ogrid[box.box[0], box.box[1]]
    x, y = x + 0.5 - x0, y + 0.5 - y0
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    inside = ((x * c + y * s) / along) ** 2 + ((y * c - x * s) / across) ** 2 <= 1
    return Segment(name, box.box, inside)


def rectangle(name: str, corners: np.ndarray, shape: tuple[int, int], turn: float = 0.0) -> Segment:
    """Fill a rectangle.

    Args:
        name: name of the segment.
        corners: two opposite corners, `[2, 2]`.
        shape: rows and columns of the image.
        turn: angle in degrees by which it is turned around its centre, clockwise as it is seen.

    Raises:
        UserError: as for `fill`.
    """
    (x0, y0), (x1, y1) = need_points(corners)
    ring = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if turn:
        c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        ring = (ring - ring.mean(axis=0)) @ np.array([[c, s], [-s, c]]) + ring.mean(axis=0)
    return fill(name, [ring], shape)


def bitmap(name: str, mask: np.ndarray, top: int, left: int, shape: tuple[int, int]) -> Segment:
    """Return a mask with its top left pixel at a place of a picture; what is outside is cut off."""
    bottom, right = min(top + mask.shape[0], shape[0]), min(left + mask.shape[1], shape[1])
    upper, west = max(top, 0), max(left, 0)
    if bottom <= upper or right <= west:
        return nothing(name, 2)
    inside = mask[upper - top : bottom - top, west - left : right - left].astype(bool)
    return Segment(name, (slice(upper, bottom), slice(west, right)), inside)


def nothing(name: str, axes: int) -> Segment:
    """Return a segment that covers no voxel."""
    return Segment(name, (slice(0, 0),) * axes, np.zeros((0,) * axes, bool))


def need_points(points: object) -> np.ndarray:
    """Return coordinates as `[N, 2]` float64.

    Raises:
        UserError: they are not pairs of numbers, not finite, or absurdly large.
    """
    try:
        array = np.asarray(points, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"expected pairs of numbers as coordinates; there are {points!r:.80}."
        ) from error
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] < 2:
        raise UserError(f"expected pairs of numbers as coordinates; there are {points!r:.80}.")
    array = array[:, :2]
    if not np.isfinite(array).all() or np.abs(array).max() > FARTHEST:
        raise UserError(
            f"expected coordinates in pixels, up to {FARTHEST:.0g}; there are "
            f"{array.min():g} to {array.max():g}."
        )
    return array


def need_picture(like: Image, what: str) -> tuple[int, int]:
    """Return rows and columns of a picture.

    Raises:
        UserError: the image is a volume.
    """
    if len(like.shape) != 2:
        raise UserError(
            f"{what} lies on a picture; its image is a volume of the shape {like.shape}. Give a "
            "label image, a .seg.nrrd or a DICOM-SEG."
        )
    return like.shape[0], like.shape[1]


def need_same_size(size: tuple[object, object], shape: tuple[int, int], what: str) -> None:
    """Require that an annotation was drawn on a picture of a size.

    Args:
        size: rows and columns that the file gives; `None` for what it does not give.
        shape: rows and columns of the picture.
        what: what was drawn, for the message.

    Raises:
        UserError: the sizes differ.
    """
    if any(own is not None and own != real for own, real in zip(size, shape, strict=True)):
        raise UserError(
            f"{what} was drawn on a picture of {size[0]} x {size[1]} pixels (rows x columns); its "
            f"image has {shape[0]} x {shape[1]}. Draw it on this image, or give the other one."
        )
