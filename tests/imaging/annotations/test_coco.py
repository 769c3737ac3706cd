"""COCO JSON, against pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference
from pycocotools.coco import COCO
from scipy import ndimage

from cdal.imaging.annotations.coco import decoded, encoded, write
from cdal.runtime.errors import UserError
from helpers.annotations import drawn, filled, known, picture_of

SHAPE = (20, 27)


def blobs(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 1.5) > 0.03


def save(path: Path, annotations: list[dict[str, Any]], **others: Any) -> Path:
    """Pictures b.png and a.png, in this order, whose ids do not count from one; categories 7, 3."""
    content = {
        "images": [
            {"id": 40, "file_name": "train/b.png", "height": 5, "width": 5},
            {"id": 12, "file_name": "train/a.png", "height": SHAPE[0], "width": SHAPE[1]},
        ],
        "categories": [{"id": 7, "name": "cell"}, {"id": 3, "name": "stroma"}],
        "annotations": [{"image_id": 12, "id": i} | own for i, own in enumerate(annotations)],
    }
    path.write_text(json.dumps(content | others))
    return path


def by_pycocotools(path: Path, classes: dict[int, int]) -> np.ndarray:
    """The masks of picture 12 as pycocotools decodes them, later ones on top."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    result = np.zeros(SHAPE, np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(12)):
        result[coco.annToMask(annotation) > 0] = classes[annotation["category_id"]]
    return result


def runs(mask: np.ndarray) -> list[int]:
    """The uncompressed runs, counted one pixel after the other."""
    counts, inside = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != inside:
            counts.append(0)
            inside = bool(pixel)
        counts[-1] += 1
    return counts


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_run_lengths_are_those_of_pycocotools(tmp_path_factory: Any, seed: int):
    """Writer: pycocotools (compressed) and counts by hand (uncompressed, a crowd). Oracle:
    pycocotools' `annToMask`.
    """
    text = reference.encode(np.asfortranarray(blobs(seed)))["counts"].decode()
    annotations = [
        {"category_id": 3, "segmentation": {"size": SHAPE, "counts": text}, "iscrowd": 0},
        {
            "category_id": 7,
            "segmentation": {"size": SHAPE, "counts": runs(blobs(seed + 1))},
            "iscrowd": 1,
        },
    ]
    path = save(tmp_path_factory.mktemp("coco") / "annotations.json", annotations)
    ours = drawn(path, SHAPE, ("background", "stroma", "cell"))
    np.testing.assert_array_equal(ours, by_pycocotools(path, {3: 1, 7: 2}))


def test_polygons_are_those_of_pycocotools_but_for_the_border(tmp_path: Path):
    """Written by hand, several polygons in one annotation. pycocotools rounds borders its own way:
    exactly equal where corners are whole numbers, elsewhere within a pixel of the border.
    """
    square, other = [2, 3, 9, 3, 9, 12, 2, 12], [12, 1, 20, 1, 20, 6, 12, 6]
    path = save(tmp_path / "w.json", [{"category_id": 7, "segmentation": [square, other]}])
    ours = drawn(path, SHAPE, ("background", "stroma", "cell"))
    np.testing.assert_array_equal(ours, by_pycocotools(path, {3: 1, 7: 2}))
    ring = np.array([[3.2, 2.7], [22.9, 5.1], [16.3, 17.8], [8.4, 11.6]])
    path = save(tmp_path / "r.json", [{"category_id": 3, "segmentation": [ring.ravel().tolist()]}])
    ours = drawn(path, SHAPE, ("background", "stroma", "cell")) > 0
    np.testing.assert_array_equal(ours, filled(ring, SHAPE))
    differs = ours != (by_pycocotools(path, {3: 1}) > 0)
    border = ndimage.binary_dilation(ours) & ~ndimage.binary_erosion(ours)
    assert not (differs & ~border).any()


def test_the_picture_is_found_by_its_name_and_categories_by_their_id(tmp_path: Path):
    path = save(tmp_path / "a.json", [{"category_id": 3, "segmentation": [[0, 0, 4, 0, 4, 4]]}])
    assert known(path).image_names(path) == ("b.png", "a.png")
    assert known(path).class_names(path) == ("cell", "stroma")
    assert drawn(path, SHAPE, ("background", "cell", "stroma")).max() == 2
    assert not drawn(path, (5, 5), ("background", "cell", "stroma"), "b.png").any()
    with pytest.raises(UserError, match=r"a\.json: it lists no picture called c\.png"):
        drawn(path, SHAPE, ("background",), "c.png")
    twice = [{"id": k, "file_name": f"{k}/a.png"} for k in range(2)]
    path = save(tmp_path / "twice.json", [], images=twice)
    with pytest.raises(UserError, match="several pictures called"):
        drawn(path, SHAPE, ("background",))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [19, 27], "counts": [540]}, "drawn on a picture of 19 x 27"),
        ({"size": [1e9, 1e9], "counts": [10**18]}, "drawn on a picture of"),
        ({"size": SHAPE, "counts": [541]}, "its runs are not"),
        ({"size": SHAPE, "counts": [539]}, "its runs are not"),
        ({"size": SHAPE, "counts": [600, -60]}, "its runs are not"),
        ({"size": SHAPE, "counts": [540.0]}, "its runs are not"),
        ({"size": SHAPE, "counts": ["540"]}, "its runs are not"),
        ({"size": SHAPE, "counts": "oooooooooooooooooooo"}, "compressed run-length"),
        ({"size": SHAPE, "counts": "lS`"}, "ends within a number"),
        ({"size": SHAPE, "counts": "\u00ff0"}, "compressed run-length"),
        ({"size": SHAPE}, "cannot be read as COCO"),
        ([[1, 2, 3]], "odd number"),
        ([[1, 2, float("nan"), 4, 5, 6]], "expected coordinates"),
        ("polygon", "expected polygons"),
    ],
)
def test_damaged_segmentations_are_refused(segmentation: Any, message: str, tmp_path: Path):
    path = save(tmp_path / "a.json", [{"category_id": 3, "segmentation": segmentation}])
    with pytest.raises(UserError, match=message) as caught:
        list(known(path).read(path, picture_of(SHAPE), "a.png"))
    assert str(path) in str(caught.value)


def test_pictures_of_another_size_and_unknown_categories_are_refused(tmp_path: Path):
    path = save(tmp_path / "a.json", [{"category_id": 9, "segmentation": [[0, 0, 4, 0, 4, 4]]}])
    with pytest.raises(UserError, match="category 9, which is not listed"):
        drawn(path, SHAPE, ("background",))
    with pytest.raises(UserError, match=r"a\.png was drawn on a picture of 20 x 27"):
        drawn(path, (27, 20), ("background",))


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_encoded_masks_are_those_of_pycocotools(seed: int, height: int, width: int):
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    text = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert encoded(mask) == text
    np.testing.assert_array_equal(decoded({"size": mask.shape, "counts": text}, mask.shape), mask)


def test_written_objects_are_read_by_pycocotools(tmp_path: Path):
    label = np.where(blobs(1), 1 + blobs(2).astype(int), 0)
    pictures = [("b.png", np.zeros((5, 5), int)), ("a.png", label)]
    write(tmp_path / "a.json", pictures, ("background", "x", "y"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "a.json"))
    theirs = np.zeros(SHAPE, int)
    for annotation in coco.loadAnns(coco.getAnnIds(2)):
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        np.testing.assert_array_equal(
            reference.toBbox(reference.encode(np.asfortranarray(mask))), annotation["bbox"]
        )
        theirs[mask > 0] = annotation["category_id"]
    np.testing.assert_array_equal(theirs, label)
    assert [category["name"] for category in coco.loadCats([1, 2])] == ["x", "y"]
    np.testing.assert_array_equal(
        drawn(tmp_path / "a.json", SHAPE, ("background", "x", "y")), label
    )
