"""Which values and which files are which class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from helpers.files import change, classes_of, disc, disc_folder, kinds


@pytest.mark.parametrize("value", [1, 255, 7])
def test_whatever_is_not_background_is_the_foreground(value: int, tmp_path: Path):
    assert open_folder(disc_folder(tmp_path, value=value)).values == (0, value)
    np.testing.assert_array_equal(classes_of(tmp_path), disc())


def test_masks_by_class_in_jpeg_are_judged_one_by_one(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        mask = Pillow.open(tmp_path / "masks" / f"c{i}.png")
        for name in ("a", "b"):
            Pillow.fromarray(np.asarray(mask) * 255).save(
                tmp_path / "masks" / f"c{i}_{name}.{'jpg' if (i, name) == (2, 'b') else 'png'}"
            )
        (tmp_path / "masks" / f"c{i}.png").unlink()
    errors = [finding for finding in check_folder(tmp_path).findings if finding.level == "error"]
    assert [finding.case for finding in errors] == ["c2"]
    assert "c2_b.jpg: JPEG changed" in errors[0].message


def test_masks_of_classes_have_to_be_whole_and_well_named(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        (tmp_path / "masks" / f"c{i}.png").rename(tmp_path / "masks" / f"c{i}_liver.png")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "Liver": 1}}')
    assert "expected a mask for each of Liver" in kinds(tmp_path, "error")["values"]
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "masks/c0_liver.png").rename(tmp_path / "masks/c0.png")
    assert "c0 has a label image" in kinds(tmp_path, "error")["values"]


def test_gaps_in_the_values_are_closed(tmp_path: Path):
    disc_folder(tmp_path)
    change(tmp_path, "masks/c0.png", lambda m: m * 2)
    change(tmp_path, "masks/c1.png", lambda m: m * 3)
    for i in range(2, 6):
        change(tmp_path, f"masks/c{i}.png", lambda m: m * 2)
    folder = open_folder(tmp_path)
    assert (folder.values, folder.classes) == ((0, 2, 3), ("background", "class 2", "class 3"))
    assert set(np.unique(classes_of(tmp_path, 1))) == {0, 2}


def test_colours_are_classes(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        change(tmp_path, f"masks/c{i}.png", lambda m: np.stack([m * 255, m * 0, m * 0], axis=-1))
    folder = open_folder(tmp_path)
    assert folder.classes == ("background", "foreground")
    np.testing.assert_array_equal(classes_of(tmp_path), disc())
