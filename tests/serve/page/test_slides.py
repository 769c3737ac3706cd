"""A picture that is too large for one canvas: tiles, and the objects as outlines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from helpers.page import Watched
from helpers.review import row, write_record

SIDE = 4160  # more than 2^24 pixels
COLOUR = (230, 159, 0)
OBJECT = (slice(1000, 1800), slice(2000, 3200))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one slide: a grey picture in which a rectangle was found."""
    root = tmp_path_factory.mktemp("slide")
    image, mask = np.full((SIDE, SIDE, 3), 90, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    image[OBJECT] = 200
    mask[OBJECT] = 1
    (root / "results").mkdir()
    written = {"tile": (512, 512), "compression": "deflate"}
    tifffile.imwrite(root / "slide.tif", image, photometric="rgb", **written)
    tifffile.imwrite(root / "results" / "slide_mask.tif", mask, **written)
    found = row(root / "slide.tif", mask="slide_mask.tif", volume={"tumour": float(mask.sum())})
    return write_record(root / "results", [found])


def outlines(page: Watched) -> np.ndarray:
    seen = page.look()
    return (abs(seen - np.array(COLOUR)) <= 25).all(axis=-1)


def test_a_slide_is_shown_by_tiles_with_its_objects(page: Watched, folder: Path):
    tiles = []
    page.page.on("response", lambda reply: tiles.append(reply.url) if "/tiles/" in reply.url else 0)
    with page.page.expect_response(lambda reply: reply.url.endswith(".jpg")):
        page.open("slide.tif")
    page.page.wait_for_load_state("networkidle")
    page.settle()
    assert any(url.endswith(".jpg") for url in tiles)
    seen, found = page.look(), outlines(page)
    scale = min(seen.shape[:2]) / SIDE  # the whole slide, in the middle
    offsets = (np.array(seen.shape[:2]) - scale * SIDE) / 2
    rows, columns = (
        [scale * part.start + offset, scale * part.stop + offset]
        for part, offset in zip(OBJECT, offsets, strict=True)
    )
    y, x = np.nonzero(found)
    assert abs(np.array([y.min(), y.max()]) - rows).max() <= 3
    assert abs(np.array([x.min(), x.max()]) - columns).max() <= 3
    middle = seen[int(np.mean(rows)), int(np.mean(columns))]
    assert abs(middle - 200).max() <= 6
    assert abs(seen[int(offsets[0]) + 10, int(offsets[1]) + 10] - 90).max() <= 6
    page.slide("Mask", 0)
    assert not outlines(page).any()
    page.page.keyboard.press("a")
    page.page.wait_for_selector("#review .verdict:text-is('accepted')")
    reviews = json.loads((folder / "review.json").read_text())["cases"]
    assert reviews["slide.tif"]["verdict"] == "accept"
