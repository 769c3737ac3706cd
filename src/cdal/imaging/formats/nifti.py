"""NIfTI volumes, read and written with nibabel."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from cdal.imaging.formats.voxels import MOST_TIMES_SMALLER, not_a_volume
from cdal.imaging.image import Image, invertible, need_size
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

_MOST_EXTENSIONS = 2**26
"""Most bytes between header and voxels; nibabel reads them into memory."""

_MILLIMETRES = {1: 1000.0, 3: 0.001}
"""Millimetres in the units metre and micrometre of a header; every other code counts as 1."""


def read(path: Path, as_label: bool, fourth_axis: int = 0) -> Image:
    """Read a volume, or a picture if there are two axes. Further axes of length 1 are dropped.

    A picture is stored as column and row; its axes become row and column, as in other formats.
    """
    kind = _need_data(path)
    file: Any = kind.from_filename(path)
    stored = np.dtype(file.get_data_dtype())
    shape = tuple(int(n) for n in file.shape)
    more = [n for n in shape[3:] if n > 1]
    channels = more == [fourth_axis]
    if (more and not channels) or len(shape) < 2:
        raise UserError(not_a_volume(path, shape))
    array = np.asarray(file.dataobj, dtype=np.float32)
    suffix = ".nii" if path.name.lower().endswith(".nii") else ".nii.gz"
    if len(shape) == 2:
        return Image(np.ascontiguousarray(array.T)[None], None, suffix, file.header, stored)
    array = array.reshape(*shape[:3], -1)
    array = np.ascontiguousarray(np.moveaxis(array, -1, 0)) if channels else array[None, ..., 0]
    affine = np.asarray(file.affine, dtype=np.float64).copy()
    affine[:3] *= _unit(file.header)
    if not invertible(affine):
        raise UserError(
            f"{path}: its affine cannot be inverted, so its voxels have no place in space: "
            f"{affine.tolist()}."
        )
    return Image(array, affine, suffix, file.header, stored)


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write `[*S]` or `[N, *S]`; N becomes the fourth axis. Lengths are in the image's own unit."""
    planar, several = len(like.shape) == 2, array.ndim > len(like.shape)
    if planar:  # whose columns come first in the file
        array = array.swapaxes(-1, -2)
    if several:
        array = np.moveaxis(array[:, :, :, None] if planar else array, 0, -1)
    header = like.header.copy() if isinstance(like.header, nib.Nifti1Header) else None
    affine = np.eye(4) if like.affine is None else like.affine.copy()
    if header is not None:
        stored = header.get_data_shape()
        if array.ndim == 3 and stored[:3] == array.shape and set(stored[3:]) == {1}:
            # The image has further axes of length 1; its mask gets them too.
            array = array.reshape(stored)
        header.set_data_dtype(array.dtype)
        header["cal_min"] = header["cal_max"] = 0
        affine[:3] /= _unit(header)
    # A picture keeps what its header says of its place.
    place = None if header is not None and like.affine is None else affine
    with replacing(path) as temporary:
        nib.save(nib.Nifti1Image(array, place, header), temporary)


def _need_data(path: Path) -> Any:
    """Check the header before nibabel reads what it promises.

    Returns:
        The class of nibabel that reads the file.

    Raises:
        UserError: the file is shorter than its header promises, too large, or no NIfTI.
    """
    with _opened(path) as file:
        content = file.read(544)
    kind: Any = nib.Nifti1Image
    if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):  # 540 bytes
        kind = nib.Nifti2Image
    length = kind.header_class.sizeof_hdr
    header = kind.header_class.from_fileobj(BytesIO(content[:length]))
    stored, shape = np.dtype(header.get_data_dtype()), header.get_data_shape()
    if stored.kind not in "iufb":
        raise UserError(
            f"{path}: expected one number a voxel; it holds {stored} (colours or complex numbers). "
            "Convert it first."
        )
    scaled = header.get_slope_inter() not in ((None, None), (1.0, 0.0))
    need_size(path, shape, 2 * stored.itemsize + 4 + (8 if scaled else 0))
    start = float(header["vox_offset"])
    between = start - length
    extended = len(content) > length and content[length] != 0
    if not between <= _MOST_EXTENSIONS or (extended and between < 4):
        raise UserError(
            f"{path}: expected extensions of up to {_MOST_EXTENSIONS >> 20} MiB behind its header; "
            f"by its header they take {between:.3g} bytes. Is the file damaged?"
        )
    size = max(start, length) + stored.itemsize * float(np.prod(np.array(shape, float)))
    held = path.stat().st_size
    most = held if path.name.lower().endswith(".nii") else held * MOST_TIMES_SMALLER
    if size > most:
        raise UserError(
            f"{path}: its header promises {size:.0f} bytes; the file has {held}. Is it complete?"
        )
    return kind


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            with gzip.open(path) as unzipped:
                yield unzipped  # type: ignore[misc]
        else:
            file.seek(0)
            yield file


def _unit(header: Any) -> float:
    """Return the millimetres in a header's unit of length."""
    return _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
