"""Which values and which files are which class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.labels import (
    MOST_CLASSES,
    grid_fault,
    name_classes,
    propose,
    read_annotation,
    with_classes_of,
    with_values,
)
from cdal.datasets.layout import Annotation, CaseFiles, DataFolder
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from helpers.files import change, classes_of, disc, disc_folder, kinds, picture


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


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((), ("background", "foreground")),
        ((0,), ("background", "foreground")),
        ((0, 255), ("background", "foreground")),
        ((3, 0, 1), ("background", "class 1", "class 3")),
        ((0, 2, 0xFF0000, 0x0000FF), ("background", "class 2", "class 255", "class #ff0000")),
    ],
)
def test_classes_that_nobody_named_are_named_by_their_values(
    values: tuple[int, ...], names: tuple[str, ...]
):
    assert name_classes(values) == names


def test_a_proposal_takes_in_what_was_not_declared():
    assert (
        propose((0, 1), (7, 3))
        == '"labels": {"background": 0, "class 1": 1, "class 3": 3, "class 7": 7}'
    )


def test_a_class_for_each_value_and_two_if_all_masks_are_empty():
    folder = DataFolder(Path(), ())
    assert with_classes_of(folder, {2, 5}).values == (0, 2, 5)
    assert (with_classes_of(folder, {0}).values, with_classes_of(folder, set()).values) == (
        (0, 1),
        (0, 1),
    )
    assert with_classes_of(folder, {0}).classes == ("background", "foreground")


def test_declared_classes_are_not_read_from_the_labels():
    """There are no files to read here."""
    case = CaseFiles("c", (Path("c.png"),), (Annotation((("", Path("nowhere.png")),)),))
    folder = DataFolder(Path(), (case,), ("background", "a"), (0, 9))
    assert with_values(folder) is folder


@pytest.mark.parametrize(
    ("suffix", "hint"), [(".png", "Numbered objects"), (".jpg", "JPEG changes values")]
)
def test_more_values_than_classes_can_be_are_refused_with_a_hint(
    suffix: str, hint: str, tmp_path: Path
):
    annotation = Annotation((("", tmp_path / f"a{suffix}"),))
    values = np.arange(64 * 64).reshape(64, 64) % (MOST_CLASSES + 2)
    picture(tmp_path / f"a{suffix}", values.astype(np.uint8))
    folder = DataFolder(tmp_path, (CaseFiles("a", (tmp_path / "a.png",), (annotation,)),))
    with pytest.raises(
        UserError, match=rf"a\{suffix}: expected a label image with a value for each class.*{hint}"
    ):
        with_values(folder)


def test_a_later_mask_lies_on_top_of_an_earlier_one_and_each_must_be_known(tmp_path: Path):
    left, right = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    left[:, :4], right[:, 2:] = 255, 1
    files = tuple(
        (name, picture(tmp_path / f"c_{name}.png", mask))
        for name, mask in (("left", left), ("right", right))
    )
    folder = DataFolder(tmp_path, (), ("background", "left", "right"), (0, 1, 2))
    image = Image(np.zeros((1, 4, 6), np.float32))
    found = read_annotation(Annotation(files), folder, image, "c.png").array
    np.testing.assert_array_equal(found[0], np.where(right > 0, 2, (left > 0) * 1))
    with pytest.raises(UserError, match=r"c_right\.png: expected a mask of one of left"):
        one = DataFolder(tmp_path, (), ("background", "left"), (0, 1))
        read_annotation(Annotation(files), one, image, "c.png")
    picture(tmp_path / "c_right.png", right[:-1])
    with pytest.raises(UserError, match=r"c_right\.png: expected the shape of c_left\.png"):
        read_annotation(Annotation(files), folder, image, "c.png")


def test_a_label_lies_on_its_image_or_says_why_not():
    image, apart = Image(np.zeros((1, 4, 5, 6)), np.eye(4)), np.diag([1.0, 1, 2, 1])
    path = Path("a.nii.gz")
    assert grid_fault(path, Image(np.zeros((1, 4, 5, 6)), np.eye(4)), image) is None
    assert (
        grid_fault(path, Image(np.zeros((1, 4, 5, 6))), image) is None
    )  # without a place of its own
    assert grid_fault(path, Image(np.zeros((1, 4, 5, 7)), np.eye(4)), image)[0] == "shape"
    kind, message = grid_fault(path, Image(np.zeros((1, 4, 5, 6)), apart), image, "its image")
    assert (kind, "the affine of its image" in message) == ("affine", True)
