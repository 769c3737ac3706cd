"""labelme JSON: polygons, rectangles, circles and masks of one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.content import matches, read_json, remembered
from cdal.imaging.annotations.polygons import (
    bitmap,
    ellipse,
    fill,
    need_picture,
    need_points,
    need_same_size,
    nothing,
    rectangle,
)
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

_NO_AREA = ("line", "linestrip", "point", "points")
_POLYGONS = ("polygon", "oriented_rectangle")


def recognises(path: Path) -> bool:
    """Whether a file holds shapes as labelme writes them."""
    return matches(path, rb'"shapes"\s*:\s*\[')


def class_names(path: Path) -> Iterator[str]:
    """Yield the label of each shape."""
    return (
        str(shape.get("label") or "") for shape in _content(path)["shapes"] if shape.get("label")
    )


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the shapes of a picture. Points and lines cover no pixel.

    Raises:
        UserError: the picture has another size, or a shape is unknown or damaged.
    """
    size = need_picture(like, "a labelme annotation")
    content = _content(path)
    need_same_size((content.get("imageHeight"), content.get("imageWidth")), size, "the annotation")
    for shape in content["shapes"]:
        yield _segment(shape, size)


@remembered
def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise UserError(f'{path}: expected the JSON of labelme, with a list "shapes".')
    content.pop("imageData", None)  # the picture itself, which would stay in memory
    return dict(content)


def _segment(shape: dict[str, Any], size: tuple[int, int]) -> Segment:
    name, kind = str(shape.get("label") or ""), shape.get("shape_type") or "polygon"
    points = need_points(shape["points"])
    needed = {"rectangle": 2, "circle": 2, "mask": 2}.get(kind)
    if needed is not None and len(points) != needed:
        raise UserError(f"expected {needed} points of a {kind}; there are {len(points)}.")
    if kind in _POLYGONS:
        return fill(name, [points], size)
    if kind == "rectangle":
        return rectangle(name, points, size)
    if kind == "circle":
        radius = float(np.linalg.norm(points[1] - points[0]))
        return ellipse(name, (points[0, 0], points[0, 1]), (radius, radius), size)
    if kind == "mask":
        (left, top), (right, bottom) = points.astype(int)
        if not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
            raise UserError(
                f"expected a mask within {size[0]} x {size[1]} pixels; its box goes from row "
                f"{top}, column {left} to row {bottom}, column {right}."
            )
        mask = _decoded(shape["mask"], (bottom - top + 1, right - left + 1))
        return bitmap(name, mask, int(top), int(left), size)
    if kind in _NO_AREA:
        return nothing(name, 2)
    raise UserError(f"expected shapes of labelme (polygon, rectangle, ...); there is {kind!r}.")


def _decoded(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Decode the PNG of a mask, whose size is that of its box, both corners included."""
    content = io.BytesIO(base64.b64decode(text, validate=True))
    with Pillow.open(content, formats=["PNG"]) as file:
        if (file.height, file.width) != shape:
            raise UserError(
                f"expected a mask of the size of its box, {shape[0]} x {shape[1]}; it is "
                f"{file.height} x {file.width}."
            )
        return np.asarray(file.convert("L")) > 0
