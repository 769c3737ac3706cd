"""Labels whose colours or grays could be read in two ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from helpers.files import classes_of, disc, disc_folder, kinds

BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (200, 0, 0), (0, 128, 0)


def with_palettes(root: Path, *palettes: list[tuple[int, int, int]]) -> Path:
    """A folder whose masks have these palettes in turn; the disc has the last colour."""
    disc_folder(root)
    for number, path in enumerate(sorted((root / "masks").iterdir())):
        colours = palettes[number % len(palettes)]
        inside = disc(radius=20 + number)
        indices = np.where(
            inside > 0, colours.index(palettes[0][-1]), colours.index(palettes[0][0])
        )
        indices[0, : len(colours)] = range(len(colours))
        picture = Pillow.fromarray(indices.astype(np.uint8))
        picture.putpalette(np.array(colours, np.uint8).tobytes())
        picture.save(path)
    return root


def test_black_and_white_in_any_order(tmp_path: Path):
    root = with_palettes(tmp_path, [BLACK, WHITE], [WHITE, BLACK])
    check = check_folder(root)
    assert (check.errors, check.folder.values) == ([], (0, 255))
    for case in range(6):
        assert abs(int(classes_of(root, case).sum()) - int(disc(radius=20 + case).sum())) <= 2


def test_palettes_that_number_the_colours_differently_are_an_error(tmp_path: Path):
    root = with_palettes(tmp_path, [BLACK, RED, GREEN], [BLACK, GREEN, RED])
    message = kinds(root, "error")["values"]
    assert "1 is #008000 in c1, and #c80000 in c0" in message
    assert not check_folder(with_palettes(tmp_path / "b", [BLACK, RED, GREEN])).errors


def test_colours_that_are_numbers_in_one_label_and_colours_in_another_are_an_error(tmp_path: Path):
    root = with_palettes(tmp_path, [BLACK, RED], [RED, BLACK])
    assert "#c80000 is 13107200 in c1, and 1 in c0" in kinds(root, "error")["values"]


def test_a_background_that_is_not_black_is_a_warning(tmp_path: Path):
    root = with_palettes(tmp_path, [WHITE, RED])
    assert "begins with the colour #ffffff" in kinds(root, "warning")["values"]


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_numbers_shown_inverted_are_a_warning(white_is_zero: bool, tmp_path: Path):
    root = disc_folder(tmp_path)
    for path in sorted((root / "masks").iterdir()):
        mask = 255 * np.asarray(Pillow.open(path))
        photometric = "miniswhite" if white_is_zero else "minisblack"
        tifffile.imwrite(path.with_suffix(".tif"), mask, photometric=photometric)
        path.unlink()
    assert ("0 is white" in kinds(root, "warning").get("values", "")) == white_is_zero
    np.testing.assert_array_equal(classes_of(root), disc())
