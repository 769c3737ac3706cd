"""TIFF of every layout, in one piece and some rows at a time, against tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from cdal.imaging.formats import read_image, read_label, tiff, tiff_rows, write_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colours", [False, True])
def test_every_orientation_is_that_of_viewers(
    orientation: int, colours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    array = numbers((20, 31, 3)) if colours else numbers((20, 31))
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb" if colours else "minisblack",
        resolution=(100, 200),
        extratags=[(274, "H", 1, orientation, True)],
    )
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(array).save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(tmp_path / "a.png")))
    expected = np.moveaxis(expected, -1, 0) if colours else expected[None]
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array, expected)
    monkeypatch.setattr(tiff_rows, "LARGE", 1)
    with tiff.open_rows(tmp_path / "a.tif", tmp_path) as opened:
        assert (opened is None) == (orientation >= 5)  # rows of the picture are columns of the file
        if opened is not None:
            for start, stop in ((0, 20), (0, 3), (7, 19)):
                np.testing.assert_array_equal(opened.rows(start, stop), expected[:, start:stop])
    write_label(tmp_path / "m", np.zeros(image.shape), image)
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        resolution = (200, 1) if orientation >= 5 else (100, 1)
        assert file.pages[0].tags["XResolution"].value == resolution
        assert "Orientation" not in file.pages[0].tags


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_numbers_of_a_label_in_which_0_is_white_are_those_stored(kind: type, tmp_path: Path):
    """As ImageJ means them, and tifffile and scikit-image read them."""
    mask = numbers((8, 9)) > 100
    tifffile.imwrite(tmp_path / "a.tif", (mask * 255).astype(kind), photometric="miniswhite")
    label = read_label(tmp_path / "a.tif")
    np.testing.assert_array_equal(label.array[0], tifffile.imread(tmp_path / "a.tif"))
    assert "0 is white" in label.doubts[0]
    shown = read_image(tmp_path / "a.tif").array[0]
    np.testing.assert_array_equal(shown, np.iinfo(kind).max - 255.0 * mask)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_1_bit_is_read_as_it_is_shown(
    compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mask = numbers((40, 48)) > 100
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ~mask, photometric="miniswhite", compression=compression)
    shown = np.asarray(Pillow.open(path))
    for read in (read_image, read_label):
        np.testing.assert_array_equal(read(path).array[0], shown)
    assert not read_label(path).doubts
    monkeypatch.setattr(tiff_rows, "LARGE", 1)
    with tiff.open_rows(path, tmp_path) as opened:
        assert opened is not None
        np.testing.assert_array_equal(opened.rows(5, 30)[0], shown[5:30])


def test_palettes_of_labels_are_those_of_pictures(tmp_path: Path):
    mask = (numbers((8, 9)) > 100).astype(np.uint8)
    ramp = np.zeros((3, 256), np.uint16)
    ramp[:, 0] = 65535
    tifffile.imwrite(tmp_path / "a.tif", mask, photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], 255 * (1 - mask))
    ramp[:] = 0
    ramp[0, 1] = 65535
    tifffile.imwrite(tmp_path / "a.tif", mask, photometric="palette", colormap=ramp)
    label = read_label(tmp_path / "a.tif")
    np.testing.assert_array_equal(label.array[0], mask)
    assert label.palette == {0: 0, 1: 0xFF0000}
    ramp[0, 1] = 200  # of 8 bits
    tifffile.imwrite(tmp_path / "a.tif", mask, photometric="palette", colormap=ramp)
    assert read_image(tmp_path / "a.tif").array[0].max() == 200


def test_a_mask_in_the_alpha_channel(tmp_path: Path):
    mask = numbers((8, 9)) > 100
    rgba = np.dstack([np.zeros((8, 9, 3), np.uint8), mask * np.uint8(255)])
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], mask * 255)


def test_pixels_behind_the_end_of_the_file_are_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbers((64, 64)), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        lengths = list(file.pages[0].databytecounts)
        file.pages[0].tags["TileByteCounts"].overwrite([*lengths[:-1], 65535])
    with pytest.raises(UserError, match="behind the end of the file"):
        read_image(tmp_path / "a.tif")
