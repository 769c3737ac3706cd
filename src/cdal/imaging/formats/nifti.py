"""NIfTI volumes, read and written with nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from cdal.imaging.image import Image, invertible, need_size
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing


def read(path: Path, as_label: bool) -> Image:
    """Read a volume. Further axes of length 1 are dropped."""
    file: Any = nib.load(path)
    stored = np.dtype(file.get_data_dtype())
    if stored.kind not in "iufb":
        raise UserError(
            f"{path}: expected one number a voxel; it holds {stored} (colours or complex numbers). "
            "Convert it first."
        )
    shape = tuple(file.shape)
    need_size(path, shape)
    if len([s for s in shape[3:] if s > 1]) or len(shape) < 3:
        raise UserError(
            f"{path}: expected a volume of 3 axes; it has {len(shape)} (shape {shape}). Give one "
            "volume of the series."
        )
    array = np.asarray(file.dataobj, dtype=np.float32).reshape(shape[:3])
    affine = np.asarray(file.affine, dtype=np.float64)
    if not invertible(affine):
        raise UserError(
            f"{path}: its affine cannot be inverted, so its voxels have no place in space: "
            f"{affine.tolist()}."
        )
    suffix = ".nii" if path.name.lower().endswith(".nii") else ".nii.gz"
    return Image(array[None], affine, suffix, file.header, stored)


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write `[*S]` or `[N, *S]`; N becomes the fourth axis."""
    if array.ndim == 4:
        array = np.moveaxis(array, 0, -1)
    header = like.header.copy() if isinstance(like.header, nib.Nifti1Header) else None
    if header is not None:
        stored = header.get_data_shape()
        if array.ndim == 3 and stored[:3] == array.shape and set(stored[3:]) == {1}:
            # The image has further axes of length 1; its mask gets them too.
            array = array.reshape(stored)
        header.set_data_dtype(array.dtype)
        header["cal_min"] = header["cal_max"] = 0
    affine = np.eye(4) if like.affine is None else like.affine
    with replacing(path) as temporary:
        nib.save(nib.Nifti1Image(array, affine, header), temporary)
