"""NIfTI, against nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cdal.imaging.formats import read_image, read_label, write_label, write_values
from cdal.runtime.errors import UserError
from helpers.files import OBLIQUE, numbers, save_nifti


def test_nifti_keeps_its_place(tmp_path: Path):
    source = save_nifti(
        tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), OBLIQUE
    )
    image = read_image(source)
    label = (image.array[0] > 11).astype(np.uint8)
    written = nib.load(write_label(tmp_path / "b", label, image))
    np.testing.assert_allclose(written.affine, OBLIQUE, atol=1e-6)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), label)
    assert written.header["qform_code"] == nib.load(source).header["qform_code"]
    np.testing.assert_allclose(image.spacing, np.linalg.norm(OBLIQUE[:3, :3], axis=0))


def test_scaled_nifti_is_read_in_its_own_unit_and_masks_are_not_scaled(tmp_path: Path):
    file = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    file.header.set_slope_inter(2.0, -100.0)
    nib.save(file, tmp_path / "ct.nii")
    image = read_image(tmp_path / "ct.nii")
    stored = np.asarray(nib.load(tmp_path / "ct.nii").dataobj)
    np.testing.assert_allclose(image.array[0], stored)
    mask = np.eye(2, dtype=np.uint8)[:, :, None].repeat(2, 2)
    np.testing.assert_array_equal(
        np.asarray(nib.load(write_label(tmp_path / "m", mask, image)).dataobj), mask
    )


@pytest.mark.parametrize(("unit", "factor"), [("micron", 0.001), ("meter", 1000), ("mm", 1)])
def test_lengths_are_millimetres_and_the_mask_keeps_its_own_unit(
    unit: str, factor: float, tmp_path: Path
):
    file = nib.Nifti1Image(numbers((3, 4, 5)), np.diag([*np.divide([0.4, 0.5, 0.6], factor), 1]))
    file.header.set_xyzt_units(unit)
    nib.save(file, tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    theirs = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(image.spacing, theirs.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(image.spacing, (0.4, 0.5, 0.6), rtol=1e-6)
    path = write_label(tmp_path / "m", image.array[0] > 100, image)
    written = nib.load(path)
    np.testing.assert_allclose(written.affine, nib.load(tmp_path / "a.nii.gz").affine)
    assert written.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(read_label(path).affine, image.affine)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_two_axes_are_a_picture_and_so_is_its_mask(suffix: str, tmp_path: Path):
    """The file holds columns and rows; a picture has rows and columns. What is written lies on
    the image, for nibabel.
    """
    array = numbers((6, 9))
    place = np.diag([0.5, 0.7, 1, 1])
    nib.save(nib.Nifti1Image(array, place), tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image.array[0], array.T)
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}").array[0], array.T)
    path = write_label(tmp_path / "m", image.array[0] > 100, image)
    written = nib.load(path)
    np.testing.assert_array_equal(np.asarray(written.dataobj), array > 100)
    np.testing.assert_array_equal(read_label(path).array[0], array.T > 100)
    values = np.stack([image.array[0], image.array[0] / 2]) / 255
    several = nib.load(write_values(tmp_path / "v", values, image))
    expected = np.stack([array, array / 2], axis=-1) / 255
    np.testing.assert_allclose(several.get_fdata()[:, :, 0], expected, atol=1e-6)
    single = nib.load(write_values(tmp_path / "u", values[0], image))
    np.testing.assert_allclose(single.get_fdata(), array / 255, atol=1e-6)
    for file in (written, several, single):
        np.testing.assert_allclose(file.affine, place)


def test_a_fourth_axis_is_channels_only_where_the_caller_says_so(tmp_path: Path):
    array = numbers((3, 4, 5, 2))
    path = save_nifti(tmp_path / "a.nii.gz", array)
    image = read_image(path, fourth_axis=2)
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))
    for expected in (0, 1, 3):
        with pytest.raises(UserError, match=r"time, give one volume.*channel_names.*NAME_0000"):
            read_image(path, fourth_axis=expected)
    written = nib.load(write_label(tmp_path / "m", image.array[0] > 9, image))
    assert written.shape == (3, 4, 5)


def test_a_header_that_promises_more_than_the_file_holds_is_refused_before_reading(tmp_path: Path):
    header = nib.Nifti1Header()
    header.set_data_shape((600, 600, 600))
    header.set_data_dtype(np.float64)
    header["vox_offset"] = 352
    content = bytes(header.binaryblock) + bytes(1000)
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(UserError, match=r"promises 1728000352 bytes.*complete"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("start", [0.0, 1.5e9])
def test_extensions_without_end_are_refused(start: float, tmp_path: Path):
    header = nib.Nifti1Header()
    header.set_data_shape((2, 2, 2))
    header["vox_offset"] = start
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(header.binaryblock) + b"\1" * 100))
    with pytest.raises(UserError, match="extensions"):
        read_image(tmp_path / "a.nii.gz")
