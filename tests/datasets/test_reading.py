"""A case's files as images on their own grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles
from cdal.datasets.reading import read_case, read_image_of
from cdal.imaging.formats import read_any
from cdal.imaging.formats.dicom import read_series
from cdal.imaging.grid import label_to_grid, to_grid
from cdal.recipes.settings import DataSettings
from cdal.runtime.errors import UserError
from helpers.files import make_folder, numbers, save_nifti, write_series


@pytest.mark.parametrize(
    ("label", "affine", "message"),
    [
        (np.zeros((6, 7, 9), np.uint8), np.eye(4), "expected the shape of its image"),
        (np.zeros((6, 7, 8), np.uint8), np.diag([2.0, 1, 1, 1]), "affine"),
        (
            np.full((6, 7, 8), 3, np.uint8),
            np.eye(4),
            r"expected classes 0 \(background\), 1 \(a\), 2 \(b\); it holds 3",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    label: np.ndarray, affine: np.ndarray, message: str, tmp_path: Path
):
    path = save_nifti(make_folder(tmp_path) / "labelsTr" / "c1.nii.gz", label, affine)
    folder = open_folder(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_case(folder.cases[1], folder)
    assert str(path) in str(caught.value)


def test_a_fourth_axis_is_channels_where_the_folder_says_how_many(tmp_path: Path):
    root = make_folder(tmp_path, count=2)
    channels = np.random.default_rng(0).normal(size=(6, 7, 8, 4)).astype(np.float32)
    save_nifti(root / "imagesTr" / "c1.nii.gz", channels)
    folder = open_folder(root)
    case = replace(folder.cases[1], channels=4)
    image, (label,) = read_case(case, folder)
    np.testing.assert_array_equal(image.array, np.moveaxis(channels, -1, 0))
    assert image.shape == label.shape
    with pytest.raises(UserError, match="NAME_0000"):
        read_case(replace(case, channels=3), folder)


@pytest.mark.parametrize("noise", [1e-6, -1e-4])
def test_a_label_gets_the_affine_of_its_image(noise: float, tmp_path: Path):
    """So that what rounding left in its header is not resampled."""
    root = make_folder(tmp_path, count=1)
    affine = np.diag([0.5, 0.5, 0.5, 1])
    save_nifti(root / "imagesTr" / "c0.nii.gz", np.zeros((6, 7, 8), np.float32), affine)
    label = np.random.default_rng(0).integers(3, size=(6, 7, 8)).astype(np.uint8)
    save_nifti(root / "labelsTr" / "c0.nii.gz", label, affine * (1 + noise))
    folder = open_folder(root)
    image, (read,) = read_case(folder.cases[0], folder)
    np.testing.assert_array_equal(read.affine, image.affine)
    np.testing.assert_array_equal(read.array[0], label)
    settings = DataSettings(spacing=(1.0, 1.0, 1.0))
    assert label_to_grid(read, 3, settings).shape == to_grid(image, settings).shape


def test_a_series_among_other_files_is_read_by_its_slices(tmp_path: Path):
    """Two series in one folder."""
    folder = write_series(tmp_path / "s", numbers((4, 5, 6), np.uint16))
    slices = tuple(sorted(folder.iterdir()))
    write_series(folder, numbers((3, 5, 6), np.uint16), description="T2", first=50)
    case = CaseFiles("s", (folder,), (), slices)
    for image in (read_image_of(case), read_image_of(case, read_any)):
        np.testing.assert_array_equal(image.array, read_series(slices).array)
    with pytest.raises(UserError, match="2 series"):
        read_image_of(CaseFiles("s", (folder,), ()))
