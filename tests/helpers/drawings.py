"""Data folders of pictures with annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from helpers.files import picture

SHAPE = (48, 56)


def pictures(root: Path, count: int = 4) -> Path:
    """Pictures c0.png, c1.png, ... of noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        picture(root / "images" / f"c{i}.png", rng.integers(0, 255, SHAPE).astype(np.uint8))
    (root / "labels").mkdir()
    return root


def square(left: float, top: float, side: float = 10) -> list[list[float]]:
    """The corners of a square, which has side x side pixels if they are whole numbers."""
    right, bottom = left + side, top + side
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def feature(ring: list[list[float]], name: str | None) -> dict[str, Any]:
    """A feature of QuPath; without a class if it has no name."""
    about: dict[str, Any] = {"objectType": "annotation"}
    if name is not None:
        about["classification"] = {"name": name}
    closed = [*ring, ring[0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [closed]},
        "properties": about,
    }


def save_geojson(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def save_coco(path: Path, objects: dict[str, list[tuple[str, list[list[float]]]]]) -> Path:
    """A COCO file with objects (class and ring) by the file name of their picture."""
    names = sorted({name for listed in objects.values() for name, _ in listed})
    content = {
        "images": [
            {"id": 10 + i, "file_name": f"all/{file}", "height": SHAPE[0], "width": SHAPE[1]}
            for i, file in enumerate(objects)
        ],
        "categories": [{"id": 3 * k, "name": name} for k, name in enumerate(names, start=1)],
        "annotations": [
            {
                "id": 100 * i + j,
                "image_id": 10 + i,
                "category_id": 3 * (names.index(name) + 1),
                "segmentation": [np.array(ring).ravel().tolist()],
                "iscrowd": 0,
            }
            for i, listed in enumerate(objects.values())
            for j, (name, ring) in enumerate(listed)
        ],
    }
    path.write_text(json.dumps(content))
    return path
