"""Objects of a mask as polygons with holes (GeoJSON), as QuPath reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from cdal.imaging.palette import PALETTE
from cdal.runtime.files import replacing

BAND = 2048
"""Rows of a mask that are looked at together."""

Rows = Callable[[int, int], np.ndarray]


def write_geojson(
    path: Path, rows: Rows, shape: tuple[int, int], names: Sequence[str], numbered: bool = False, band: int = BAND
) -> int:
    """Write the objects of a mask as polygons with holes, in pixels: (0, 0) is the top left corner of the top left pixel.

    Some rows are in memory at a time. An object is what hangs together by the edges of its pixels.

    Args:
        path: of the file.
        rows: gives rows of the mask, `(start, stop) -> [stop - start, W]`.
        shape: of the mask.
        names: of the classes, the background first.
        numbered: whether the mask holds numbered objects, all of class 1, rather than classes.
        band: rows that are looked at together, if no object is higher.

    Returns:
        How many objects there are.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        found = _numbered(rows(0, shape[0])) if numbered else _objects(rows, shape, band)
        for value, top, left, part in found:
            feature: dict[str, Any] = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": _rings(part, top, left)},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": names[value], "color": PALETTE[value].tolist()},
                    "area": int(part.sum()),
                },
            }
            file.write(("," if count else "") + "\n" + json.dumps(feature))
            count += 1
        file.write("\n]}\n")
    return count


def _numbered(numbers: np.ndarray) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """As `_objects`, of objects that have numbers."""
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if box is not None:
            yield 1, box[0].start, box[1].start, numbers[box] == number


def _objects(rows: Rows, shape: tuple[int, int], height: int) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Value, top, left and mask of each object.

    An object that goes on below a band is left to the next band, which begins where the first such object does; pixels of objects
    that were given already are taken out of it.
    """
    start, size = 0, height
    given = np.zeros((0, shape[1]), bool)
    while start < shape[0]:
        stop = min(shape[0], start + size)
        band = np.array(rows(start, stop))
        band[: len(given)][given] = 0
        parts = [(int(value), ndimage.label(band == value)[0]) for value in np.unique(band[band > 0])]
        boxes = [(value, numbered, i, box) for value, numbered in parts for i, box in enumerate(ndimage.find_objects(numbered), 1)]
        open_tops = [box[0].start for _, _, _, box in boxes if box[0].stop == stop - start and stop < shape[0]]
        until = min(open_tops, default=stop - start)
        if until == 0:  # one object fills the band: a larger one
            size *= 2
            continue
        done = np.zeros(band.shape, bool)
        done[: len(given)] = given
        for value, numbered, i, box in boxes:
            if box[0].start < until:
                part = numbered[box] == i
                done[box] |= part
                yield value, start + box[0].start, box[1].start, part
        start, given = start + until, done[until:]
        size = max(height, len(given))


def _rings(part: np.ndarray, top: int, left: int) -> list[list[list[float]]]:
    """The outer ring and the holes of one object, halfway between its pixels' centres and those outside."""
    rings = find_contours(np.pad(part, 1).astype(np.uint8), 0.5, fully_connected="low")
    corners = [approximate_polygon(ring, 1e-6)[:, ::-1] + (left - 0.5, top - 0.5) for ring in rings]
    corners.sort(key=_area, reverse=True)  # the outer ring is the largest
    return [[[float(x), float(y)] for x, y in ring] for ring in corners]


def _area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
