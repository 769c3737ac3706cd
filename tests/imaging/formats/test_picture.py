"""Pictures, as every viewer shows them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from cdal.imaging.formats import read_image, read_label, write_label, write_values
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
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


def disc(size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - 30) ** 2 + (x - 20) ** 2 <= 144


def with_palette(path: Path, indices: np.ndarray, *colours: tuple, **options: object) -> Path:
    picture = Pillow.fromarray(indices.astype(np.uint8))
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    picture.save(path, **options)
    return path


BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (200, 0, 0), (0, 128, 1)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
@pytest.mark.parametrize("shades", [(0, 255), (255, 0), (90, 200), (200, 0)])
def test_a_palette_of_grays_means_its_grays(shades: tuple[int, int], suffix: str, tmp_path: Path):
    """As Pillow shows them, whatever order a program gave them."""
    path = with_palette(tmp_path / f"a{suffix}", disc(), *[(gray,) * 3 for gray in shades])
    label = read_label(path)
    np.testing.assert_array_equal(label.array[0], np.asarray(Pillow.open(path).convert("L")))


def test_adaptive_palettes_are_not_inverted(tmp_path: Path):
    shown = Pillow.fromarray((disc() * 255).astype(np.uint8)).convert("RGB")
    shown.convert("P", palette=Pillow.Palette.ADAPTIVE, colors=2).save(tmp_path / "a.png")
    assert (read_label(tmp_path / "a.png").array > 0).sum() == disc().sum() == 441


def test_numbers_with_colours_stay_numbers(tmp_path: Path):
    numbers_ = disc().astype(int) + (np.arange(64) > 25)
    label = read_label(with_palette(tmp_path / "a.png", numbers_, BLACK, RED, GREEN))
    np.testing.assert_array_equal(label.array[0], numbers_)
    assert label.palette == {0: 0, 1: 0xC80000, 2: 0x008001}
    assert not label.doubts


def test_colours_in_an_order_of_their_own_are_colours(tmp_path: Path):
    label = read_label(with_palette(tmp_path / "a.png", disc(), RED, BLACK))
    np.testing.assert_array_equal(label.array[0], np.where(disc(), 0, 0xC80000))
    assert label.palette == {0: 0, 0xC80000: 0xC80000}


def test_numbers_of_one_colour_stay_numbers_and_are_doubted(tmp_path: Path):
    """A palette that was never filled in shows nothing of the classes."""
    label = read_label(with_palette(tmp_path / "a.png", disc(), BLACK, BLACK))
    np.testing.assert_array_equal(label.array[0], disc())
    assert "the numbers 0, 1 one colour" in label.doubts[0]


def test_a_palette_without_black_is_doubted(tmp_path: Path):
    label = read_label(with_palette(tmp_path / "a.png", disc(), WHITE, RED))
    np.testing.assert_array_equal(label.array[0], disc())
    assert "#ffffff" in label.doubts[0]


def test_a_palette_that_is_too_short_is_refused(tmp_path: Path):
    content = with_palette(tmp_path / "a.png", disc() * 9, *[RED] * 10).read_bytes()
    at = content.index(b"PLTE")
    short = struct.pack(">I", 6) + (chunk := b"PLTE" + bytes(6))
    short += struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[: at - 4] + short + content[at + 4 + 30 + 4 :])
    with pytest.raises(UserError, match="index 9 is out of bounds"):
        read_label(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
@pytest.mark.parametrize("drawn", [0, 255])
@pytest.mark.parametrize("hidden", [0, 255])
def test_a_mask_in_the_alpha_channel(mode: str, drawn: int, hidden: int, tmp_path: Path):
    """What a viewer shows as drawn is the mask, whatever colour transparent pixels hide."""
    if mode == "P":
        path = with_palette(
            tmp_path / "a.png", disc(), (hidden,) * 3, (drawn,) * 3, transparency=bytes([0, 255])
        )
    else:
        gray = np.where(disc(), drawn, hidden).astype(np.uint8)
        colours = [gray] * (len(mode) - 1)
        Pillow.fromarray(np.dstack([*colours, disc() * np.uint8(255)]), mode).save(
            path := tmp_path / "a.png"
        )
    np.testing.assert_array_equal(read_label(path).array[0] > 0, disc())


def test_a_transparent_picture_of_one_colour_is_empty(tmp_path: Path):
    """As the others of its folder are, in which something is drawn in white."""
    Pillow.new("RGBA", (6, 5), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert not read_label(tmp_path / "a.png").array.any()
    Pillow.new("RGBA", (6, 5), (255, 255, 255, 255)).save(tmp_path / "b.png")
    assert (read_label(tmp_path / "b.png").array == 255).all()


def test_colours_drawn_on_transparent_white(tmp_path: Path):
    rgba = np.full((64, 64, 4), 255, np.uint8)
    rgba[..., 3] = 0
    rgba[disc()], rgba[:5] = (*RED, 255), (*GREEN, 255)
    Pillow.fromarray(rgba).save(tmp_path / "a.png")
    expected = np.where(disc(), 0xC80000, 0)
    expected[:5] = 0x008001
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array[0], expected)


def test_numbers_whose_background_is_transparent_stay_numbers(tmp_path: Path):
    path = with_palette(tmp_path / "a.png", disc(), BLACK, RED, transparency=0)
    np.testing.assert_array_equal(read_label(path).array[0], disc())


def test_a_photograph_with_a_preview_is_the_photograph(tmp_path: Path):
    photograph = Pillow.fromarray(numbers((16, 24, 3)))
    photograph.save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[photograph.resize((6, 4))]
    )
    image = read_image(tmp_path / "a.jpg")
    with Pillow.open(tmp_path / "a.jpg") as theirs:
        np.testing.assert_array_equal(np.moveaxis(image.array, 0, -1), np.asarray(theirs))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_orientation_is_that_of_viewers(orientation: int, kind: type, tmp_path: Path):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    colours = numbers((6, 9, 3))
    Pillow.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(tmp_path / "a.png")))
    if kind == np.uint16:  # Pillow writes no colours of 16 bits
        content = (tmp_path / "a.png").read_bytes()
        at = content.index(b"eXIf") - 4
        chunk = content[at : at + 12 + struct.unpack(">I", content[at : at + 4])[0]]
        wide = imagecodecs.png_encode(colours.astype(np.uint16))
        (tmp_path / "a.png").write_bytes(wide[:33] + chunk + wide[33:])
    np.testing.assert_array_equal(
        np.moveaxis(read_image(tmp_path / "a.png").array, 0, -1), expected
    )


def test_a_picture_of_more_pixels_than_its_bytes_can_hold_is_refused(tmp_path: Path):
    header = struct.pack(">IIBBBBB", 3_000_000, 29, 1, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(b""), b"IEND"):
        content += struct.pack(">I", len(chunk) - 4) + chunk
        content += struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match="promises 3000000 x 29 pixels"):
        read_image(tmp_path / "a.png")
