"""TIFF of every layout, in one piece and some rows at a time, against tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cdal.imaging.formats import read_image, tiff, tiff_rows, write_label
from cdal.imaging.image import Image
from helpers.arrays import kept
from helpers.files import numbers


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((7, 9), {}, (1, 7, 9)),
        ((7, 9, 3), {"photometric": "rgb"}, (3, 7, 9)),
        ((7, 9, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (3, 7, 9)),
        ((5, 7, 9), {"photometric": "minisblack"}, (1, 7, 9, 5)),
        ((5, 7, 9, 3), {"photometric": "rgb"}, (3, 7, 9, 5)),
        ((3, 7, 9), {"planarconfig": "separate", "photometric": "rgb"}, (3, 7, 9)),
        ((5, 7, 9), {"imagej": True, "metadata": {"axes": "ZYX"}}, (1, 7, 9, 5)),
        ((2, 5, 7, 9), {"metadata": {"axes": "CZYX"}, "ome": True}, (2, 7, 9, 5)),
        ((64, 64), {"tile": (16, 16), "compression": "deflate"}, (1, 64, 64)),
        ((7, 9), {"byteorder": ">"}, (1, 7, 9)),
    ],
)
def test_tiffs_of_every_layout(
    shape: tuple[int, ...], options: dict, expected: tuple[int, ...], tmp_path: Path
):
    array = numbers(
        shape, np.uint16 if options.get("ome") or options.get("byteorder") else np.uint8
    )
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    image = read_image(tmp_path / "a.tif")
    assert image.array.shape == expected
    assert image.affine is None
    if len(expected) == 4:
        mask = numbers(expected[1:]) % 2
        pages = tifffile.imread(write_label(tmp_path / "m", mask, image))
        np.testing.assert_array_equal(np.moveaxis(pages, 0, -1), mask)


def test_a_mask_keeps_the_size_of_its_pixels(tmp_path: Path):
    tifffile.imwrite(
        tmp_path / "a.tif", numbers((8, 8)), resolution=(40000, 40000), resolutionunit="CENTIMETER"
    )
    write_label(tmp_path / "m", np.eye(8), read_image(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].tags["XResolution"].value == (40000, 1)


LAYOUTS = [
    {"tile": (32, 48)},
    {"tile": (32, 48), "compression": "zlib", "predictor": True},
    {"tile": (64, 64), "compression": "lzw", "photometric": "rgb"},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "compression": "zlib"},
    {"rowsperstrip": 100, "compression": "zlib", "photometric": "rgb"},
    {"byteorder": ">"},
    {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    {"photometric": "miniswhite"},
    {},
]


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("one_strip", [False, True])
def test_rows_are_those_of_the_whole(
    options: dict, kind: type, one_strip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tiff_rows, "LARGE", 1)
    if one_strip:
        monkeypatch.setattr(tiff_rows, "LARGEST_STRIP", 1)
    samples = 4 if "extrasamples" in options else 3 if options.get("photometric") == "rgb" else 0
    array = (
        np.random.default_rng(0)
        .integers(0, 250, size=(100, 110, *([samples] if samples else [])))
        .astype(kind)
    )
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    expected = array[..., :3] if samples else array[..., None]
    expected = np.invert(expected) if options.get("photometric") == "miniswhite" else expected
    with tiff.open_rows(tmp_path / "a.tif", tmp_path) as opened:
        assert opened is not None
        assert (opened.shape, opened.stored) == ((100, 110), kind)
        for start, stop in ((0, 100), (0, 1), (31, 65), (99, 100), (7, 14)):
            np.testing.assert_array_equal(
                np.moveaxis(opened.rows(start, stop), 0, -1), expected[start:stop]
            )


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("pages", [(), (2,)])
def test_rows_become_a_tiled_tiff(kind: type, pages: tuple[int, ...], tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 3, size=(*pages, 300, 517)).astype(kind)
    rows = kept(array, len(pages), 77, tmp_path / "rows")
    tiff.write_tiled(
        tmp_path / "m.tif", rows, Image(np.zeros((1, 0, 0)), suffix=".tif"), labels=kind == np.uint8
    )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), array)
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].is_tiled
