"""labelme JSON, typed by hand after labelme's own files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from skimage.draw import disk

from cdal.runtime.errors import UserError
from helpers.annotations import drawn, filled, known, picture_of

SHAPE = (18, 24)
RING = [[2.4, 3.1], [15.2, 4.6], [9.7, 14.3]]


def shape(label: str, kind: str, points: Any, **others: Any) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    } | others


def save(path: Path, shapes: Any, **others: Any) -> Path:
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": SHAPE[0],
        "imageWidth": SHAPE[1],
    }
    path.write_text(json.dumps(content | others))
    return path


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(mask).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_polygons_rectangles_circles_and_masks(tmp_path: Path):
    """Typed by hand, a mask as Pillow saves it. Oracles: matplotlib, scikit-image, NumPy."""
    mask = np.random.default_rng(0).random((4, 5)) < 0.5
    shapes = [
        shape("a", "polygon", RING),
        shape("b", "rectangle", [[20, 9], [14, 12]]),
        shape("c", "circle", [[18.3, 5.2], [20.3, 5.2]]),
        shape("d", "mask", [[1.0, 13.0], [5.0, 16.0]], mask=png(mask)),
        shape("e", "point", [[3, 3]]),
        shape("e", "linestrip", [[3, 3], [9, 9], [9, 3]]),
    ]
    expected = filled(RING, SHAPE).astype(int)
    expected[9:12, 14:20] = 2
    expected[disk((5.2 - 0.5, 18.3 - 0.5), 2, shape=SHAPE)] = 3
    expected[13:17, 1:6][mask] = 4
    path = save(tmp_path / "a.json", shapes)
    np.testing.assert_array_equal(drawn(path, SHAPE, ("", "a", "b", "c", "d", "e")), expected)
    assert known(path).class_names(path) == ("a", "b", "c", "d", "e")
    nowhere = [s.name for s in known(path).read(path, picture_of(SHAPE)) if not s.inside.size]
    assert nowhere == ["e", "e"]


def test_files_of_old_versions_have_polygons_only(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": [{"label": "a", "points": RING}], "imagePath": "x.jpg"}))
    np.testing.assert_array_equal(drawn(path, SHAPE, ("", "a")), filled(RING, SHAPE))


def test_a_picture_of_another_size_is_refused(tmp_path: Path):
    path = save(tmp_path / "a.json", [shape("a", "polygon", RING)])
    with pytest.raises(UserError, match=r"a\.json: the annotation was drawn on .* 18 x 24"):
        drawn(path, (24, 18), ("", "a"))


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (shape("a", "rectangle", [[1, 2]]), "expected 2 points of a rectangle"),
        (shape("a", "polygon", [[1, 2], [float("nan"), 4], [3, 3]]), "expected coordinates"),
        (shape("a", "spline", RING), "there is 'spline'"),
        (
            shape("a", "mask", [[1, 1], [1e6, 1e6]], mask=png(np.ones((2, 2), bool))),
            "within 18 x 24",
        ),
        (shape("a", "mask", [[1, 1], [3, 3]], mask=png(np.ones((2, 2), bool))), "size of its box"),
        (shape("a", "mask", [[1, 1], [2, 2]], mask="!"), "cannot be read as labelme JSON"),
        (shape("a", "mask", [[1, 1], [2, 2]]), "cannot be read as labelme JSON"),
        ({"label": "a"}, "cannot be read as labelme JSON"),
        (3, 'with a list "shapes"'),
    ],
)
def test_damaged_shapes_are_refused(damaged: Any, message: str, tmp_path: Path):
    path = save(tmp_path / "a.json", [damaged])
    with pytest.raises(UserError, match=message):
        list(known(path).read(path, picture_of(SHAPE)))
