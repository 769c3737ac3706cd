"""NIfTI, against nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from cdal.imaging.formats import read_image, write_label
from helpers.files import OBLIQUE, save_nifti


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
