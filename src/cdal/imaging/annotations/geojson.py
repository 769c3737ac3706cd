"""GeoJSON: the annotations of QuPath, and the objects of a mask as polygons with holes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.content import matches, read_json, remembered
from cdal.imaging.annotations.polygons import fill_parts, need_picture
from cdal.imaging.image import Image
from cdal.imaging.palette import PALETTE
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

BAND = 2048
"""Rows of the mask that are searched for objects at a time."""

Rows = Callable[[int, int], np.ndarray]

_NO_OBJECTS = ("root", "tile")
"""Types of QuPath's objects that nobody drew."""


def recognises(path: Path) -> bool:
    """Whether a file has the suffix of GeoJSON, or holds a feature."""
    return path.name.lower().endswith(".geojson") or matches(
        path, rb'"type"\s*:\s*"Feature(Collection)?"'
    )


def class_names(path: Path) -> Iterator[str]:
    """Yield the class of each annotation that has one."""
    return (name for feature in _features(path) if (name := _class_of(feature)))


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the annotations of a picture; those without a class have an empty name.

    The polygons of a `MultiPolygon` belong together, rings in a polygon are holes. Points and lines
    cover no pixel.

    Raises:
        UserError: the image is a volume, or an annotation lies on another plane of a stack.
    """
    shape = need_picture(like, "GeoJSON")
    for feature in _features(path):
        geometry = feature.get("geometry") or {}
        plane = geometry.get("plane") or {}
        if any(plane.get(axis, 0) > 0 for axis in ("z", "t")):
            raise UserError(
                f"expected annotations of one picture; one lies on {plane}. Export those of one "
                "plane."
            )
        yield fill_parts(_class_of(feature), _polygons(geometry), shape)


@remembered
def _features(path: Path) -> list[dict[str, Any]]:
    """Return the features of a collection, of a list, or the only one.

    Raises:
        UserError: the file holds something else.
    """
    content = read_json(path)
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    if not isinstance(content, list) or not all(
        isinstance(feature, dict) and feature.get("type") == "Feature" for feature in content
    ):
        raise UserError(
            f"{path}: expected GeoJSON: a FeatureCollection, or features in a list. Export it "
            "again."
        )
    return [feature for feature in content if _type_of(feature) not in _NO_OBJECTS]


def _type_of(feature: Mapping[str, Any]) -> str:
    about = feature.get("properties") or {}
    return str(about.get("objectType", about.get("object_type", ""))).lower()


def _class_of(feature: Mapping[str, Any]) -> str:
    """Return the name of a feature's class: a word, its name, or its names as QuPath joins them."""
    given = (feature.get("properties") or {}).get("classification") or ""
    if isinstance(given, dict):
        given = given.get("name") or ": ".join(map(str, given.get("names") or ()))
    return str(given)


def _polygons(geometry: Mapping[str, Any]) -> list[list[Any]]:
    """Return the polygons of a geometry, each with its rings."""
    kind = geometry.get("type")
    if kind == "Polygon":
        return [geometry["coordinates"]]
    if kind == "MultiPolygon":
        return list(geometry["coordinates"])
    if kind == "GeometryCollection":
        return [part for inner in geometry["geometries"] for part in _polygons(inner)]
    return []


def write_geojson(
    path: Path,
    rows: Rows,
    shape: tuple[int, int],
    names: Sequence[str],
    numbered: bool = False,
    band: int = BAND,
) -> int:
    """Write the objects of a mask as polygons with holes.

    Coordinates are in pixels; (0, 0) is the top left corner of the top left pixel. Pixels that
    share an edge belong to the same object. A mask of classes is processed in bands of rows, so it
    is never in memory as a whole.

    Args:
        path: path of the file.
        rows: function that returns rows of the mask, `(start, stop) -> [stop - start, W]`.
        shape: shape of the mask.
        names: names of the classes, the background first.
        numbered: whether the mask holds numbered objects of class 1 instead of classes. It is then
            read in one piece.
        band: rows processed at a time; doubled as long as a single object fills the band.

    Returns:
        The number of objects.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for one in outlines(rows, shape, numbered, band):
            colour = PALETTE[one.value].tolist()
            feature: dict[str, Any] = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": one.rings},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": names[one.value], "color": colour},
                    "area": one.area,
                },
            }
            file.write(("," if count else "") + "\n" + json.dumps(feature))
            count += 1
        file.write("\n]}\n")
    return count


@dataclass(frozen=True)
class Outline:
    """One object of a mask.

    Attributes:
        value: its class.
        rings: its outer ring, then its holes, each a list of x and y in pixels.
        area: its number of pixels.
    """

    value: int
    rings: list[list[list[float]]]
    area: int


def outlines(
    rows: Rows, shape: tuple[int, int], numbered: bool = False, band: int = BAND
) -> Iterator[Outline]:
    """Yield the objects of a mask; arguments as for `write_geojson`."""
    objects = _numbered(rows(0, shape[0])) if numbered else _objects(rows, shape, band)
    for value, top, left, part in objects:
        yield Outline(value, _rings(part, top, left), int(part.sum()))


def _numbered(numbers: np.ndarray) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield the same values as `_objects` for a mask of numbered objects."""
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if box is not None:
            yield 1, box[0].start, box[1].start, numbers[box] == number


def _objects(
    rows: Rows, shape: tuple[int, int], height: int
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield value, top, left and mask of each object.

    Objects that reach below the current band are left to the next band. The next band starts at the
    top of the first such object. Pixels of objects already yielded are removed from it.
    """
    start, size = 0, height
    yielded = np.zeros((0, shape[1]), bool)
    while start < shape[0]:
        stop = min(shape[0], start + size)
        band = np.array(rows(start, stop))
        band[: len(yielded)][yielded] = 0
        parts = [
            (int(value), ndimage.label(band == value)[0]) for value in np.unique(band[band > 0])
        ]
        boxes = [
            (value, numbered, i, box)
            for value, numbered in parts
            for i, box in enumerate(ndimage.find_objects(numbered), 1)
        ]
        open_tops = [
            box[0].start
            for _, _, _, box in boxes
            if box[0].stop == stop - start and stop < shape[0]
        ]
        until = min(open_tops, default=stop - start)
        # A single object fills the band: try a larger one.
        if until == 0:
            size *= 2
            continue
        done = np.zeros(band.shape, bool)
        done[: len(yielded)] = yielded
        for value, numbered, i, box in boxes:
            if box[0].start < until:
                part = numbered[box] == i
                done[box] |= part
                yield value, start + box[0].start, box[1].start, part
        start, yielded = start + until, done[until:]
        size = max(height, len(yielded))


def _rings(part: np.ndarray, top: int, left: int) -> list[list[list[float]]]:
    """Return the outer ring and the holes of one object.

    The rings run midway between the centres of inside and outside pixels.
    """
    rings = find_contours(np.pad(part, 1).astype(np.uint8), 0.5, fully_connected="low")
    corners = [approximate_polygon(ring, 1e-6)[:, ::-1] + (left - 0.5, top - 0.5) for ring in rings]
    corners.sort(key=_area, reverse=True)  # the largest ring is the outer one
    return [[[float(x), float(y)] for x, y in ring] for ring in corners]


def _area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
