"""Classes that a folder declares: values, colours, or whatever is not 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from cdal.datasets.declared import declared_classes
from cdal.datasets.folder import open_folder
from cdal.runtime.errors import UserError
from helpers.files import change, classes_of, disc, disc_folder, kinds


def declare(root: Path, labels: Any) -> Path:
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


def coloured(root: Path, colours: tuple[tuple[int, int, int], ...]) -> Path:
    """Masks whose left half of the disc has one colour and the right half another one."""
    table = np.array(((0, 0, 0), *colours), np.uint8)
    disc_folder(root)
    for i in range(6):
        change(root, f"masks/c{i}.png", lambda m: table[halves(m)])
    return root


def halves(mask: np.ndarray) -> np.ndarray:
    return mask * (1 + (np.arange(64) >= 32))


RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": [0, 0, 0], "vein": [255, 255, 255], "artery": [255, 0, 0]},
        {"background": "#000000", "vein": "#FFFFFF", "artery": "#ff0000"},
    ],
)
def test_a_table_of_colours_names_the_classes(labels: dict[str, Any], tmp_path: Path):
    root = declare(coloured(tmp_path, (RED, WHITE)), labels)
    checked = check_folder(root)
    assert not checked.errors
    assert checked.folder.classes == ("background", "artery", "vein")
    assert checked.folder.values == (0, 0xFF0000, 0xFFFFFF)
    np.testing.assert_array_equal(classes_of(root), halves(disc()))


def test_colours_are_the_same_in_files_with_a_palette_and_in_gray_ones(tmp_path: Path):
    labels = {"background": [0, 0, 0], "artery": list(RED), "vein": list(WHITE)}
    root = declare(coloured(tmp_path, (RED, WHITE)), labels)
    path = root / "masks/c0.png"
    Pillow.open(path).convert("P", palette=Pillow.Palette.ADAPTIVE, colors=3).save(path)
    np.testing.assert_array_equal(classes_of(root), halves(disc()))
    Pillow.fromarray(disc() * 255).save(path)  # without red, a mask may be saved in gray
    np.testing.assert_array_equal(classes_of(root), disc() * 2)


def test_the_map_of_labels_that_cvat_writes_is_read(tmp_path: Path):
    root = coloured(tmp_path, (RED, WHITE))
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbig artery:255,0,0::\n"
        "vein:255,255,255::\n"
    )
    folder = open_folder(root)
    assert folder.classes == ("background", "big artery", "vein")
    np.testing.assert_array_equal(classes_of(root), halves(disc()))
    declare(root, {"background": 0, "a": 1})
    with pytest.raises(UserError, match="both declare the classes"):
        open_folder(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("background:0,0,0::\nartery:255,0::\n", "line 2: expected a name and three numbers"),
        ("artery:1,2,x::\n", "line 1: expected a name and three numbers"),
        (":1,2,3::\n", "line 1: expected a name"),
        ("background:0,0,0::\nartery:256,0,0::\n", "line 2"),
        ("background:0,0,0::\na:1,0,0::\na:2,0,0::\n", "line 3: expected each class once"),
        ("background:0,0,0::\na:1,0,0::\nb:1,0,0::\n", "different colours"),
        ("background:1,0,0::\nb:2,0,0::\n", "black"),
        ("", "two or more classes"),
    ],
)
def test_maps_of_another_form_are_refused(text: str, message: str, tmp_path: Path):
    (disc_folder(tmp_path) / "labelmap.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)


@pytest.mark.parametrize("place", [".", "masks"])
def test_a_table_of_colours_may_be_a_csv_and_lie_with_the_labels(place: str, tmp_path: Path):
    root = coloured(tmp_path, (RED, WHITE))
    text = "name, r, g, b\nvein, 255, 255, 255\nartery, 255, 0, 0\n"
    (root / place / "class_dict.csv").write_text(text)
    assert open_folder(root).classes == ("background", "artery", "vein")
    np.testing.assert_array_equal(classes_of(root), halves(disc()))
    assert not check_folder(root).errors


def test_other_colours_than_the_declared_ones_are_found(tmp_path: Path):
    declare(coloured(tmp_path, (RED, WHITE)), {"background": [0, 0, 0], "artery": list(RED)})
    assert "its label holds #ffffff" in kinds(tmp_path, "error")["values"]
    with pytest.raises(UserError, match=r"expected classes #000000 .*; it holds #ffffff"):
        classes_of(tmp_path)


def test_whatever_is_not_0_can_be_one_class(tmp_path: Path):
    disc_folder(tmp_path)
    numbers = disc().astype(np.uint16) * (1 + np.arange(64)[:, None] // 8)
    change(tmp_path, "masks/c0.png", lambda m: numbers.astype(np.uint16))
    declare(tmp_path, {"background": 0, "nucleus": "foreground"})
    checked = check_folder(tmp_path)
    assert not [finding for finding in checked.findings if finding.kind == "values"]
    assert checked.folder.classes == ("background", "nucleus")
    assert set(checked.facts[0].voxels) == {0, 1}
    np.testing.assert_array_equal(classes_of(tmp_path), disc())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "a": "foreground", "b": 2}, "one class that takes whatever is not 0"),
        ({"a": "foreground"}, "one class that takes"),
        ({"background": 0, "a": 2**40}, "expected two or more labels"),
        ({"background": 0, "a": True}, "expected"),
        ({"background": 0, "a": 1.5}, "expected"),
        ({"background": 0, "a": None}, "expected"),
        ({"background": 0, "a": {}}, "expected"),
        ({"0": "background", "1": ["a"]}, "region"),
        ({"0": "background", "1": 5}, "expected"),
        ({}, "expected"),
        ("a", "expected"),
        ({"background": 0, "a": [1, 2]}, "regions"),
        ({"background": 0, "a": [255, 0, 0]}, "regions"),
        ({"background": [0, 0, 0], "a": [256, 0, 0]}, "regions"),
        ({"background": 0, "\x1b[31m": 1}, "control characters"),
        ({"background": 0, "a\ud800": 1}, "control characters"),
        ({"background": 0, " ": 1}, "control characters"),
        ({"background": 0, "a\u0308": 1, "ä": 2}, "different names"),
        ({"background": 0, "Ignore": 255}, "marks what nobody annotated"),
    ],
)
def test_declarations_of_another_form_are_refused(labels: Any, message: str, tmp_path: Path):
    declare(tmp_path, labels)
    with pytest.raises(UserError, match=message) as error:
        declared_classes(tmp_path)
    str(error.value).encode()
    assert "\x1b" not in str(error.value)


def test_what_was_not_annotated_may_not_be_called_0(tmp_path: Path):
    """A background called `unlabelled` is a background."""
    declare(tmp_path, {"unlabelled": 0, "a": 1})
    assert declared_classes(tmp_path).classes == ("unlabelled", "a")
