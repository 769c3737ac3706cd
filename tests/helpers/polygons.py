"""Polygons as pixels again, by another library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Outline


def rasterised(path: Path, shape: tuple[int, int], names: tuple[str, ...]) -> np.ndarray:
    """The polygons filled by matplotlib, holes taken out: a pixel is inside if its centre, (column
    + 0.5, row + 0.5), is.
    """
    filled = np.zeros(shape, np.uint8)
    for feature in json.loads(path.read_text())["features"]:
        rings = [np.array(ring) for ring in feature["geometry"]["coordinates"]]
        (left, top), (right, bottom) = (
            np.floor(rings[0].min(axis=0)).astype(int),
            np.ceil(rings[0].max(axis=0)).astype(int),
        )
        y, x = np.mgrid[top:bottom, left:right]
        centres = np.c_[x.ravel() + 0.5, y.ravel() + 0.5]
        outer, *holes = (Outline(ring).contains_points(centres).reshape(y.shape) for ring in rings)
        for hole in holes:
            outer &= ~hole
        assert outer.sum() == feature["properties"]["area"]
        filled[top:bottom, left:right][outer] = names.index(
            feature["properties"]["classification"]["name"]
        )
    return filled
