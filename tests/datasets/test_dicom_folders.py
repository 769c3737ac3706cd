"""Data folders whose images are DICOM: checked, trained on, scored and segmented like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import cdal
from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.imaging.formats import read_image
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from helpers.files import write_series
from helpers.recipes import small_recipe
from helpers.stand_ins import radiograph

SHAPE = (10, 14, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five series, each with a bright box, whose labels are NIfTI with axes in another order, as
    most programs write them.
    """
    root = tmp_path_factory.mktemp("dicom")
    for i in range(5):
        values = np.random.default_rng(i).integers(100, 200, size=SHAPE).astype(np.uint16)
        values[3:6, 4 : 8 + i % 2, 2:7] += 500
        image = read_image(write_series(root / "images" / f"case{i}", values))
        truth = (image.array[0] > 2 * 400 - 1000).astype(np.uint8)
        label = nib.as_closest_canonical(nib.Nifti1Image(truth, image.affine))
        assert label.shape != image.shape
        (root / "labels").mkdir(exist_ok=True)
        nib.save(label, root / "labels" / f"case{i}.nii.gz")
    return root


def test_a_label_in_another_order_of_axes_lies_on_its_series(folder: Path):
    opened = open_folder(folder)
    assert [case.name for case in opened.cases] == [f"case{i}" for i in range(5)]
    image, (label,) = read_case(opened.cases[1], opened)
    assert image.shape == label.shape == SHAPE
    assert image.array[0][label.array[0] > 0].min() > image.array[0][label.array[0] == 0].max()
    assert not check_folder(folder).errors


def test_a_label_of_another_place_is_refused(folder: Path, tmp_path: Path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "a").symlink_to(folder / "images" / "case0")
    label = nib.load(folder / "labels" / "case0.nii.gz")
    moved = label.affine.copy()
    moved[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), moved), tmp_path / "labels" / "a.nii.gz")
    opened = open_folder(tmp_path)
    with pytest.raises(UserError, match=r"a\.nii\.gz: expected the (shape|affine)"):
        read_case(opened.cases[0], opened)


def test_series_are_trained_on_scored_and_segmented(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = replace(small_recipe(steps=2), data=DataSettings(size=(8, 8, 8), folds=5, channels=1))
    model = cdal.train(recipe, folder, tmp_path / "run", "cpu")
    assert cdal.evaluate(model, folder, cdal.Sampling(votes=1)).summary()["cases"] == 1
    series = folder / "images" / "case0"
    assert cdal.load(model).predict(series).mask.shape == SHAPE
    assert (
        main(["predict", str(model), str(series), "--out", str(tmp_path / "out"), "--votes", "1"])
        == 0
    )
    assert (tmp_path / "out" / "case0_mask.dcm").is_file()
    assert main(["check", str(folder)]) == 0
    assert "5 cases" in capsys.readouterr().out


def test_a_file_is_read_wherever_a_picture_is(trained: Path, tmp_path: Path):
    """A radiograph, with its suffix or without. A slice is one of a volume, and no picture."""
    radiograph(tmp_path / "x.dcm")
    for name in ("x.dcm", "x"):
        path = (tmp_path / "x.dcm").rename(tmp_path / name)
        assert cdal.load(trained).predict(path).mask.shape == (48, 40)
    (path,) = write_series(tmp_path / "s", np.zeros((1, 32, 32), np.uint16)).iterdir()
    with pytest.raises(UserError, match="Save its slice as a picture"):
        cdal.load(trained).predict(path)


def test_a_label_in_dicom_is_refused_with_the_remedy(folder: Path, tmp_path: Path):
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "labels").mkdir()
    (slice_file, *_) = (folder / "images" / "case0").iterdir()
    (tmp_path / "labels" / "case0.dcm").write_bytes(slice_file.read_bytes())
    assert any(
        "Give a DICOM-SEG or RTSTRUCT, or convert the label" in finding.message
        for finding in check_folder(tmp_path).findings
    )
