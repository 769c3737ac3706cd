"""What the tests of NRRD and MetaImage share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from cdal.imaging.image import LPS, Image


def assert_as_simpleitk(ours: Image, theirs: sitk.Image) -> None:
    """The same numbers, of the same type, in the same place."""
    array = sitk.GetArrayFromImage(theirs)
    expected = np.moveaxis(array, -1, 0) if array.ndim > 3 else array[None]
    np.testing.assert_array_equal(ours.array, expected.transpose(0, 3, 2, 1))
    assert ours.stored == array.dtype
    affine = LPS @ ours.affine
    np.testing.assert_allclose(affine[:3, 3], theirs.GetOrigin())
    direction = np.array(theirs.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(affine[:3, :3], direction * theirs.GetSpacing(), atol=1e-12)


def folder_of_traps(root: Path, numbers: bytes) -> Path:
    """A folder with a pipe, and with a link to the file `a.raw` above it."""
    folder = root / "data"
    folder.mkdir()
    (root / "a.raw").write_bytes(numbers)
    (folder / "link").symlink_to(root / "a.raw")
    os.mkfifo(folder / "pipe")
    return folder
