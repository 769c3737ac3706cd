"""An image with its geometry, as returned by readers and taken by writers."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdal.runtime.errors import UserError
from cdal.runtime.memory import need_memory

MOST_VALUES = 3e8
"""Largest image held in memory, in voxels times channels; checked before decoding."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Conversion between the axes of ITK and DICOM and those of NIfTI and cDAL.

The former point to the left and the back, the latter to the right and the front.
"""

_LIMIT = "CDAL_MAX_VALUES"

_RESULT_SUFFIXES = {
    ".jpg": ".png",
    ".jpeg": ".png",
    ".nhdr": ".nrrd",
    ".seg.nrrd": ".nrrd",
    ".mhd": ".mha",
    ".ome.tif": ".tif",
    ".ome.tiff": ".tiff",
}


@dataclass(frozen=True)
class Image:
    """An image with its geometry.

    Attributes:
        array: `[C, *S]` float32, as stored, after the format's own scaling. The axes of a picture
            are row and column.
        affine: `[4, 4]`, from voxels to millimetres (RAS+); `None` for pictures and for volumes in
            formats without geometry.
        suffix: suffix for result files, such as `.nii.gz`. It is `.png` for JPEG pictures, because
            lossy compression damages masks.
        header: data that the format's writer needs.
        stored: type of the numbers on disk.
        palette: for a label with a palette, the colour of each of its values, as 65536 * red + 256
            * green + blue.
        doubts: what could have been read in another way, for the check of a data folder.
    """

    array: np.ndarray
    affine: np.ndarray | None = None
    suffix: str = ".nii.gz"
    header: Any = field(default=None, repr=False)
    stored: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    palette: Mapping[int, int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image without channels, `*S`."""
        return self.array.shape[1:]

    @property
    def like(self) -> Image:
        """The image itself, see `cdal.imaging.rows.Rows`."""
        return self

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return a range of rows, see `cdal.imaging.rows.Rows`."""
        return self.array[:, start:stop]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres per voxel along each axis; 1 if there is no affine."""
        if self.affine is None:
            return (1.0,) * len(self.shape)
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))


def result_suffix(suffix: str) -> str:
    """Return the suffix of an image's results, that of a lossless format with a single file."""
    return _RESULT_SUFFIXES.get(suffix, suffix)


def image_digest(image: Image) -> str:
    """Return a checksum of shape and values that does not depend on the file format."""
    return hashlib.sha256(repr(image.shape).encode() + image.array.tobytes()).hexdigest()[:16]


def invertible(affine: np.ndarray) -> bool:
    """Whether the axes of an affine are linearly independent; independent of the voxel size."""
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    return bool(
        np.isfinite(affine).all()
        and (lengths > 0).all()
        and abs(np.linalg.det(axes / lengths)) > 1e-6
    )


def need_regular(path: Path) -> None:
    """Refuse a path that is no regular file: reading a pipe or a device may never end.

    Raises:
        UserError: there is no such file, it is something else, or it may not be read.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to something that is not there. Copy the file itself."
            ) from error
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{path}: no such file.") from error
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise UserError(f"{path}: expected a file; it is {kind}.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read. Change its permissions, or give a copy.")


def need_size(path: Path, shape: tuple[int, ...], each: float = 8) -> None:
    """Refuse an image if its header gives an absurd size, as decompression bombs do.

    Args:
        path: path of the file.
        shape: shape with channels, as the header gives it.
        each: bytes of memory that reading a number takes.

    Raises:
        UserError: the image is empty, exceeds the limit, or does not fit into the memory that is
            free. The environment variable CDAL_MAX_VALUES changes the limit.
    """
    count = math.prod(int(s) for s in shape)
    try:
        limit = float(os.environ.get(_LIMIT, MOST_VALUES))
    except ValueError as error:
        raise UserError(
            f"the environment variable {_LIMIT} must be a number; it is {os.environ[_LIMIT]!r}."
        ) from error
    if count <= 0:
        raise UserError(f"{path}: expected an image; its shape is {shape}, so it holds nothing.")
    if count > limit:
        raise UserError(
            f"{path}: its header promises {count:.3g} numbers (shape {shape}), more than "
            f"{limit:.3g}. If that is right and there is memory for it, set the environment "
            f"variable {_LIMIT}={count:.0f}; a large picture can be segmented as a TIFF, which is "
            "read by region."
        )
    need_memory(
        each * count, str(path), "Crop it, store it in smaller numbers, or end other programs."
    )
