"""Outlines in Aperio ImageScope XML files, converted to numbered objects."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ElementTree  # the parser resolves no external entities
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from cdal.runtime.errors import UserError

_MOST = 2**27
"""Most bytes of the text of a file."""


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
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise ValueError(f"it has more than {_MOST / 2**20:.0f} MiB")
        root = ElementTree.fromstring(content)
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
