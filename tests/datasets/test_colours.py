"""Tables of colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.datasets.check import check_folder
from cdal.datasets.colours import read_table, value_of
from cdal.datasets.folder import open_folder
from cdal.runtime.errors import UserError
from helpers.files import classes_of, kinds, picture

CVAT = """# label:color_rgb:parts:actions
background:0,0,0::
white matter:255,255,255::
lesion:184,61,245::
"""
CAMVID = "name, r, g, b\nwhite matter, 255, 255, 255\nlesion, 184, 61, 245\n"
COLOURS = np.array([(0, 0, 0), (184, 61, 245), (255, 255, 255)], np.uint8)


def masks(root: Path) -> list[np.ndarray]:
    """Two masks: of three colours, and of black and white only, which is read as one channel."""
    rng = np.random.default_rng(0)
    chosen = [rng.integers(0, 3, (12, 15)), rng.integers(0, 2, (12, 15)) * 2]
    for i, classes in enumerate(chosen):
        picture(root / f"images/c{i}.png", rng.integers(0, 255, (12, 15)).astype(np.uint8))
        picture(root / f"labels/c{i}.png", COLOURS[classes])
    return chosen


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labelmap.txt", CVAT),
        ("labels/labelmap.txt", CVAT),
        ("class_dict.csv", CAMVID),
        (
            "dataset.json",
            '{"labels": {"background": 0, "lesion": "#b83df5", "white matter": "#FFFFFF"}}',
        ),
    ],
)
def test_colours_have_the_names_of_the_table(name: str, content: str, tmp_path: Path):
    chosen = masks(tmp_path)
    (tmp_path / name).write_text(content)
    assert open_folder(tmp_path).classes == ("background", "lesion", "white matter")
    for case, expected in enumerate(chosen):
        np.testing.assert_array_equal(classes_of(tmp_path, case), expected)
    assert not check_folder(tmp_path).errors


def test_a_colour_that_the_table_does_not_have_is_an_error(tmp_path: Path):
    masks(tmp_path)
    (tmp_path / "labelmap.txt").write_text(CVAT.replace("184,61", "184,62"))
    assert str(0xB83DF5) in kinds(tmp_path, "error")["values"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "one class or more"),
        ("lesion\n", "cannot be read as a table of colours"),
        ("lesion:1,2::\n", "no three numbers"),
        ("lesion:1,2,256::\n", "no three numbers"),
        (":1,2,3::\n", "no name"),
        ("a:1,2,3::\nb:1,2,3::\n", "a colour of its own"),
        ("a:1,2,3::\na:1,2,4::\n", "a name and a colour"),
    ],
)
def test_damaged_tables_are_refused(content: str, message: str, tmp_path: Path):
    (tmp_path / "labelmap.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "labelmap.txt")


def test_other_values_stay_as_they_are():
    assert [value_of(value) for value in ("#010203", "#12", "lung", 3, [1, 2])] == [
        0x010203,
        "#12",
        "lung",
        3,
        [1, 2],
    ]
