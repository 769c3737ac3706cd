"""The layouts of data folders: where images and labels lie, and which folders are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.runtime.errors import UserError
from helpers.files import classes_of, disc, disc_folder, kinds, make_folder, picture, save_nifti


@pytest.mark.parametrize("layout", ["suffix", "folder"])
def test_one_file_for_each_class(layout: str, tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        mask = np.asarray(Pillow.open(tmp_path / "masks" / f"c{i}.png"))
        (tmp_path / "masks" / f"c{i}.png").unlink()
        for name, half in (("left", mask.copy()), ("right", mask.copy())):
            half[:, 32:] *= name == "right"
            half[:, :32] *= name == "left"
            picture(
                tmp_path
                / "masks"
                / (f"c{i}_{name}.png" if layout == "suffix" else f"{name}/c{i}.png"),
                half * 255,
            )
    checked = check_folder(tmp_path)
    assert not checked.errors
    assert checked.folder.classes == ("background", "left", "right")
    found = classes_of(tmp_path)
    assert set(np.unique(found[:, :32])) == {0, 1}
    assert set(np.unique(found[:, 32:])) == {0, 2}


def test_masks_may_say_that_they_are_masks(tmp_path: Path):
    disc_folder(tmp_path)
    for path in list((tmp_path / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    np.testing.assert_array_equal(classes_of(tmp_path), disc())


def test_channels_in_files_of_their_own(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(3):
        for channel in range(2):
            save_nifti(
                tmp_path / "imagesTr" / f"b_{i}_{channel:04d}.nii.gz",
                rng.normal(size=(8, 9, 10)).astype(np.float32),
            )
        save_nifti(
            tmp_path / "labelsTr" / f"b_{i}.nii.gz",
            rng.integers(2, size=(8, 9, 10)).astype(np.uint8),
        )
    folder = open_folder(tmp_path)
    assert [case.name for case in folder.cases] == ["b_0", "b_1", "b_2"]
    assert read_case(folder.cases[0], folder)[0].array.shape == (2, 8, 9, 10)
    (tmp_path / "imagesTr" / "b_1_0001.nii.gz").unlink()
    assert "channels" in kinds(tmp_path, "error")


def test_labels_of_several_kinds_are_refused(tmp_path: Path):
    disc_folder(tmp_path)
    picture(tmp_path / "masks" / "c0_rater0.png", disc())
    assert "labels of several kinds" in kinds(tmp_path, "error")["missing"]


def test_a_decathlon_folder_is_understood(tmp_path: Path):
    folder = open_folder(make_folder(tmp_path))
    assert [case.name for case in folder.cases] == [f"c{i}" for i in range(8)]
    assert folder.classes == ("background", "a", "b")
    assert folder.licence == "free"


def test_class_names_may_be_the_keys(tmp_path: Path):
    (make_folder(tmp_path) / "dataset.json").write_text(
        '{"labels": {"background": 0, "b": 2, "a": 1}}'
    )
    assert open_folder(tmp_path).classes == ("background", "a", "b")


def test_annotators_belong_to_their_image(phantoms: Path):
    folder = open_folder(phantoms)
    assert len(folder.cases) == 16
    assert [a.paths[0].name for a in folder.cases[3].labels] == [
        f"phantom_0003_rater{r}.png" for r in range(3)
    ]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: (r / "labelsTr" / "c2.nii.gz").unlink(), "image without a label: c2"),
        (lambda r: (r / "imagesTr" / "c2.nii.gz").unlink(), "label without an image: c2"),
        (lambda r: [p.unlink() for p in r.glob("*Tr/*")], "holds no image"),
        (
            lambda r: (r / "imagesTr").rename(r / "pictures"),
            r"\n  imagesTr/ and labelsTr/\n",
        ),
        (lambda r: (r / "dataset.json").write_text("{"), "cannot be read as JSON"),
        (
            lambda r: (r / "dataset.json").write_text('{"labels": {"1": "b", "2": "a"}}'),
            "0 for the background",
        ),
        (lambda r: (r / "dataset.json").write_text('{"labels": ["b", "a"]}'), "expected"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(break_it, message: str, tmp_path: Path):
    break_it(make_folder(tmp_path))
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="it holds nothing"):
        open_folder(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        open_folder(tmp_path / "nowhere")
