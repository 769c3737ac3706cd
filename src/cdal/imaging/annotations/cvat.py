"""CVAT XML ("CVAT for images"): shapes and masks of many pictures in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.content import matches, read_xml, remembered
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
from cdal.imaging.annotations.shared import base_name, filled, find_image, places_of
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

_SHAPES = ("polygon", "box", "mask", "ellipse", "polyline", "points", "skeleton", "cuboid")


def recognises(path: Path) -> bool:
    """Whether the root element of a file is that of CVAT."""
    return matches(path, rb"<annotations[\s>/]")


def class_names(path: Path) -> Iterator[str]:
    """Yield the labels of the task, and of the shapes, whether a shape has them or not."""
    root = _root(path)
    for label in root.iterfind("meta//labels/label/name"):
        yield label.text or ""
    for image in root.iterfind("image"):
        yield from (shape.get("label", "") for shape in image if shape.tag in _SHAPES)


def image_names(path: Path) -> Iterator[str]:
    """Yield the file name of each picture, without its folders."""
    return (base_name(image.get("name", "")) for image in _root(path).iterfind("image"))


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the shapes of the picture with a file name, from the lowest `z_order` to the highest.

    Lines, points, skeletons and cuboids cover no pixel.

    Raises:
        UserError: the file does not list the picture exactly once, the sizes differ, or a mask is
            damaged.
    """
    shape = need_picture(like, "a CVAT annotation")
    images, places = _images(path)
    found = images[find_image(image, places)]
    size = tuple(int(found.attrib[side]) for side in ("height", "width"))
    need_same_size((size[0], size[1]), shape, image)
    drawn = [child for child in found if child.tag in _SHAPES]
    for child in sorted(drawn, key=lambda child: int(child.get("z_order", 0))):
        yield _segment(child, shape)


@remembered
def _images(path: Path) -> tuple[list[Element], dict[str, list[int]]]:
    """Return the pictures, and where each file name occurs."""
    images = _root(path).findall("image")
    return images, places_of(base_name(image.get("name", "")) for image in images)


@remembered
def _root(path: Path) -> Element:
    """Read the root element.

    Raises:
        UserError: the file holds tracks of a video.
    """
    root = read_xml(path)
    if root.find("track") is not None:
        raise UserError(
            f"{path}: expected annotations of pictures; it holds tracks of a video. Export it as "
            '"CVAT for images".'
        )
    return root


def _segment(shape: Element, size: tuple[int, int]) -> Segment:
    name, turn = shape.get("label", ""), float(shape.get("rotation", 0))
    if shape.tag == "polygon":
        points = [point.split(",") for point in shape.attrib["points"].split(";") if point.strip()]
        return fill(name, [need_points(points)], size)
    if shape.tag == "box":
        x0, y0, x1, y1 = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(name, np.array([[x0, y0], [x1, y1]]), size, turn)
    if shape.tag == "ellipse":
        x, y, along, across = (float(shape.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(name, (x, y), (along, across), size, turn)
    if shape.tag == "mask":
        left, top, width, height = (
            int(float(shape.attrib[key])) for key in ("left", "top", "width", "height")
        )
        if not (left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]):
            raise UserError(
                f"expected a mask within {size[0]} x {size[1]} pixels; its box has {height} x "
                f"{width} at row {top}, column {left}."
            )
        runs = [int(run) for run in shape.attrib["rle"].split(",") if run.strip()]
        return bitmap(name, filled(runs, (height, width)), top, left, size)
    return nothing(name, 2)
