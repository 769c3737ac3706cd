"""Aperio ImageScope XML: the regions of a picture, and its outlines as numbered objects."""

from __future__ import annotations

import gzip
import re
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.content import read_xml
from cdal.imaging.annotations.polygons import ellipse, fill, need_picture, need_points
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

_ELLIPSE = "2"
"""Type of a region that is given by two corners of its box."""


def recognises(path: Path) -> bool:
    """Whether the root element of a file is that of ImageScope; damaged archives are taken too."""
    compressed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            head = file.read(4096)
    except (OSError, EOFError, zlib.error):
        return compressed
    ours = re.search(rb"<Annotations[\s>/]", head) is not None
    return ours and b"<ASAP_Annotations" not in head  # which has an element of that name too


def class_names(path: Path) -> Iterator[str]:
    """Yield the name of each layer that has one."""
    return (name for layer in _layers(path) if (name := layer.get("Name", "")))


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the regions of a picture; the class of a region is the name of its layer.

    A region with `NegativeROA` is a hole of the regions of its layer. Arrows and rulers cover no
    pixel.

    Raises:
        UserError: the image is a volume, or the file holds no region.
    """
    shape = need_picture(like, "an Aperio annotation")
    layers = _layers(path)
    if not any(layer.find(".//Region") is not None for layer in layers):
        raise UserError(
            f"{path}: expected outlines (Region elements with Vertex elements); it holds none."
        )
    for layer in layers:
        name, regions = layer.get("Name", ""), list(layer.iter("Region"))
        holes = [_filled(region, name, shape) for region in regions if _is_hole(region)]
        for region in regions:
            if not _is_hole(region):
                yield _without(_filled(region, name, shape), holes)


def _is_hole(region: ElementTree.Element) -> bool:
    return region.get("NegativeROA") == "1"


def _layers(path: Path) -> list[ElementTree.Element]:
    return read_xml(path).findall("Annotation")


def _filled(region: ElementTree.Element, name: str, shape: tuple[int, int]) -> Segment:
    points = need_points(
        [(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")]
    )
    if region.get("Type") == _ELLIPSE and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return ellipse(
            name, ((x0 + x1) / 2, (y0 + y1) / 2), (abs(x1 - x0) / 2, abs(y1 - y0) / 2), shape
        )
    return fill(name, [points], shape)


def _without(segment: Segment, holes: list[Segment]) -> Segment:
    """Return a segment without its pixels in holes."""
    inside = segment.inside
    for hole in holes:
        common = tuple(
            slice(max(own.start, cut.start), min(own.stop, cut.stop))
            for own, cut in zip(segment.box, hole.box, strict=True)
        )
        if all(part.start < part.stop for part in common):
            within, cut = (
                tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(common, box, strict=True)
                )
                for box in (segment.box, hole.box)
            )
            inside = inside.copy() if inside is segment.inside else inside
            inside[within] &= ~hole.inside[cut]
    return Segment(segment.name, segment.box, inside)


def rasterise(
    outlines: Iterator[np.ndarray] | list[np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    """Draw outlines as filled polygons with consecutive numbers.

    Outline pixels belong to the polygon. If polygons overlap, the later one covers the earlier one.
    Outlines of one or two points are skipped.

    Args:
        outlines: one array `[N, 2]` per object, with x (column) and y (row) in pixels. Coordinates
            are rounded down.
        shape: rows and columns of the result.

    Returns:
        `[H, W]` int32, 0 for the background. Outline k (from 1) has number k.
    """
    picture = Pillow.new("I", (shape[1], shape[0]))
    draw = ImageDraw.Draw(picture)
    for number, outline in enumerate(outlines, start=1):
        points = [(float(x), float(y)) for x, y in np.floor(outline)]
        if len(points) > 2:
            draw.polygon(points, fill=number, outline=number)
    return np.asarray(picture, np.int32)


def read_outlines(path: Path) -> list[np.ndarray]:
    """Read the polygons of an Aperio ImageScope XML file (`.xml`, `.xml.gz`).

    Returns:
        One array `[N, 2]` per polygon, with x and y in pixels.

    Raises:
        UserError: the file is damaged or contains no outline.
    """
    try:
        root = read_xml(path)
        outlines = [
            np.array(
                [
                    (float(vertex.attrib["X"]), float(vertex.attrib["Y"]))
                    for vertex in region.iter("Vertex")
                ]
            )
            for region in root.iter("Region")
        ]
    except (
        OSError,
        EOFError,
        zlib.error,
        ElementTree.ParseError,
        LookupError,
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:
        raise UserError(
            f"{path} cannot be read as an annotation: {error}. Expected the XML of Aperio "
            "ImageScope."
        ) from error
    outlines = [outline for outline in outlines if len(outline)]
    if not outlines:
        raise UserError(
            f"{path}: expected outlines (Region elements with Vertex elements); it holds none."
        )
    return outlines
