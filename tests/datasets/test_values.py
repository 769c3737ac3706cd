"""The numbers of label images: values, colours, or whatever is not 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.values import coded, read_values, shown
from cdal.runtime.errors import UserError
from helpers.files import picture


def test_colours_are_numbers_of_their_three_parts(tmp_path: Path):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    codes = rgb.astype(int) @ [65536, 256, 1]
    path = picture(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(read_values(path, "colours").array[0], codes)
    gray = picture(tmp_path / "gray.png", rgb[..., 0])
    np.testing.assert_array_equal(
        read_values(gray, "colours").array[0], rgb[..., 0].astype(int) * 0x010101
    )
    np.testing.assert_array_equal(read_values(gray).array[0], rgb[..., 0])
    Pillow.fromarray(rgb).convert("P").save(tmp_path / "p.png")
    expected = np.asarray(Pillow.open(tmp_path / "p.png").convert("RGB")).astype(int)
    np.testing.assert_array_equal(
        read_values(tmp_path / "p.png", "colours").array[0], expected @ [65536, 256, 1]
    )


def test_colours_of_16_bits_are_refused(tmp_path: Path):
    path = picture(tmp_path / "a.png", np.full((4, 4), 300, np.uint16))
    with pytest.raises(UserError, match="in the declared colours, of 8 bits"):
        read_values(path, "colours")


def test_whatever_is_not_0_is_1():
    numbers = np.array([0, 3, 255, 0])
    np.testing.assert_array_equal(coded(numbers, "foreground"), [0, 1, 1, 0])
    assert coded(numbers, "values") is numbers
    assert (shown(255, "values"), shown(255, "colours")) == ("255", "#0000ff")
