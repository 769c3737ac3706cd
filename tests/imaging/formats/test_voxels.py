"""NRRD and MetaImage, against SimpleITK and pynrrd."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cdal.imaging.formats import read_image, write_label, write_values
from helpers.files import numbers, save_nifti

TURNED = np.array(
    [[0, -2 * 0.96, 3 * 0.28, 5], [1.5, 0, 0, -7], [0, 2 * 0.28, 3 * 0.96, 11], [0, 0, 0, 1]]
)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_itk_formats_lie_where_nifti_lies(suffix: str, tmp_path: Path):
    """SimpleITK converts a NIfTI file; both are the same image to us, and the mask lies where
    SimpleITK's own would.
    """
    source = save_nifti(tmp_path / "a.nii.gz", numbers((5, 6, 7), np.int16), TURNED)
    theirs = sitk.ReadImage(str(source))
    sitk.WriteImage(theirs, str(tmp_path / f"a{suffix}"))
    first, second = read_image(source), read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_allclose(second.affine, first.affine, atol=1e-4)
    label = (second.array[0] > 100).astype(np.uint8)
    written = sitk.ReadImage(str(write_label(tmp_path / "m", label, second)))
    assert written.GetOrigin() == pytest.approx(theirs.GetOrigin())
    assert written.GetSpacing() == pytest.approx(theirs.GetSpacing())
    assert written.GetDirection() == pytest.approx(theirs.GetDirection())
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(written), (sitk.GetArrayFromImage(theirs) > 100).astype(np.uint8)
    )


def test_pynrrd_sees_our_mask(tmp_path: Path):
    header = {
        "space": "left-posterior-superior",
        "space directions": [[0.5, 0.1, 0], [-0.1, 0.5, 0], [0, 0, 2.0]],
        "space origin": [1, 2, 3],
    }
    nrrd.write(str(tmp_path / "a.nrrd"), numbers((4, 5, 6)), header)
    image = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.array[0], numbers((4, 5, 6)))
    np.testing.assert_allclose(
        image.affine[:3, 3], [-1, -2, 3]
    )  # left, posterior is minus right, anterior
    mask = (image.array[0] > 50).astype(np.uint8)
    back, theirs = nrrd.read(str(write_label(tmp_path / "m", mask, image)))
    np.testing.assert_array_equal(back, mask)
    np.testing.assert_allclose(theirs["space directions"], header["space directions"], atol=1e-6)
    np.testing.assert_allclose(theirs["space origin"], header["space origin"])


def test_vectors_are_channels(tmp_path: Path):
    sitk.WriteImage(
        sitk.GetImageFromArray(numbers((6, 5, 4, 3)), isVector=True), str(tmp_path / "v.nrrd")
    )
    image = read_image(tmp_path / "v.nrrd")
    assert image.array.shape == (3, 4, 5, 6)
    np.testing.assert_array_equal(image.array[1], numbers((6, 5, 4, 3))[..., 1].T)
    written = sitk.ReadImage(str(write_values(tmp_path / "p", np.zeros((2, 4, 5, 6)), image)))
    assert (written.GetSize(), written.GetNumberOfComponentsPerPixel()) == ((4, 5, 6), 2)
