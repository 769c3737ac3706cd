"""An image with its place in space, as readers give it and writers take it."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdal.runtime.errors import UserError

MOST_VALUES = 3e8
"""Numbers (voxels times channels) of an image that is held in memory; more are refused before any is decoded."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK's and DICOM's millimetres run to the left and the back; ours, as those of NIfTI, to the right and the front."""

_LIMIT = "CDAL_MAX_VALUES"


@dataclass(frozen=True)
class Image:
    """An image with its place in space.

    Attributes:
        array: `[C, *S]`, float32, as stored (after the format's own scaling). Pictures have axes row, column.
        affine: `[4, 4]`, voxel to millimetres (RAS+); none for pictures and for volumes whose format knows no space.
        suffix: of the files that belong to it: `.nii.gz`; `.png` for a picture that came as JPEG, whose loss no mask survives.
        header: what the writer of that format needs.
        stored: the type of its numbers on disk.
    """

    array: np.ndarray
    affine: np.ndarray | None = None
    suffix: str = ".nii.gz"
    header: Any = field(default=None, repr=False)
    stored: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def shape(self) -> tuple[int, ...]:
        """`*S`."""
        return self.array.shape[1:]

    @property
    def like(self) -> Image:
        """See `cdal.imaging.rows.Rows`."""
        return self

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `cdal.imaging.rows.Rows`."""
        return self.array[:, start:stop]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres per voxel along each axis; 1 where there is no affine."""
        if self.affine is None:
            return (1.0,) * len(self.shape)
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))


def result_suffix(suffix: str) -> str:
    """The suffix of results for an image of this one: lossless, and one file."""
    return {".jpg": ".png", ".jpeg": ".png", ".nhdr": ".nrrd", ".mhd": ".mha"}.get(suffix, suffix)


def image_digest(image: Image) -> str:
    """A checksum of shape and numbers, whatever format they came in."""
    return hashlib.sha256(repr(image.shape).encode() + image.array.tobytes()).hexdigest()[:16]


def invertible(affine: np.ndarray) -> bool:
    """Whether every axis has a direction of its own, however small its voxels are."""
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    return bool(np.isfinite(affine).all() and (lengths > 0).all() and abs(np.linalg.det(axes / lengths)) > 1e-6)


def need_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an image of absurd size, or a bomb, by what its header says.

    Raises:
        UserError: it holds nothing, or more than the limit, which the environment variable CDAL_MAX_VALUES raises.
    """
    count = math.prod(int(s) for s in shape)
    try:
        most = float(os.environ.get(_LIMIT, MOST_VALUES))
    except ValueError as error:
        raise UserError(f"the environment variable {_LIMIT} must be a number; it is {os.environ[_LIMIT]!r}.") from error
    if count <= 0:
        raise UserError(f"{path}: expected an image; its shape is {shape}, so it holds nothing.")
    if count > most:
        raise UserError(
            f"{path}: its header promises {count:.3g} numbers (shape {shape}), more than {most:.3g}. If that is right and there is "
            f"memory for it, set the environment variable {_LIMIT}={count:.0f}; a large picture can be segmented as a TIFF, which "
            "is read by region."
        )
