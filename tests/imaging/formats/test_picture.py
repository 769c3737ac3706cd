"""Pictures, as every viewer shows them."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.imaging.formats import read_image, write_label, write_values
from cdal.imaging.image import Image
from helpers.files import numbers


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_pictures_of_every_mode(mode: str, tmp_path: Path):
    gray = Pillow.fromarray(numbers((8, 8)))
    if mode == "I;16":
        Pillow.fromarray(numbers((8, 8), np.uint16) * 300).save(tmp_path / "a.png")
        np.testing.assert_array_equal(
            read_image(tmp_path / "a.png").array[0], numbers((8, 8), np.uint16) * 300.0
        )
        return
    gray.convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert len(image.array) == {"RGB": 3, "RGBA": 3}.get(mode, 1)
    if mode in ("RGB", "RGBA", "LA", "P"):
        np.testing.assert_array_equal(image.array[0], numbers((8, 8)))


def test_16_bits_a_colour_are_kept(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 65535, size=(5, 6, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(colours))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, np.moveaxis(colours, -1, 0))
    assert image.stored == np.uint16


def test_a_photograph_is_upright(tmp_path: Path):
    """As every viewer shows it, and as a mask is drawn on it."""
    sideways = Pillow.fromarray(numbers((6, 9)))
    exif = sideways.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    sideways.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png").array[0], np.rot90(numbers((6, 9)), -1)
    )


def test_a_jpeg_gets_a_mask_that_loses_nothing(tmp_path: Path):
    Pillow.fromarray(numbers((16, 16, 3))).save(tmp_path / "a.jpg")
    image = read_image(tmp_path / "a.jpg")
    assert image.array.shape == (3, 16, 16)
    path = write_label(tmp_path / "m", np.arange(256).reshape(16, 16), image)
    assert path.name == "m.png"
    np.testing.assert_array_equal(np.asarray(Pillow.open(path)), np.arange(256).reshape(16, 16))


def test_png_values_hold_16_bits(tmp_path: Path):
    like = Image(np.zeros((1, 3, 5), np.float32), suffix=".png")
    values = np.linspace(0, 1, 15).reshape(3, 5)
    stored = np.asarray(Pillow.open(write_values(tmp_path / "v", values, like)))
    np.testing.assert_allclose(stored / 65535, values, atol=1e-5)
