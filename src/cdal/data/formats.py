"""Reading and writing image files: NIfTI volumes and PNG pictures.

A reader returns an `Image` that remembers its geometry; a writer takes the image it belongs to, so that a mask cannot lose its
place. Files appear whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image as Pillow

from cdal.errors import UserError
from cdal.files import replacing

SUFFIXES = (".nii.gz", ".nii", ".png")
"""What can be read and written; the longest that fits a name is taken."""


@dataclass(frozen=True)
class Image:
    """An image with its place in space.

    Attributes:
        array: `[C, *S]`, float32, as stored (after the format's own scaling). Pictures have axes row, column.
        affine: `[4, 4]`, voxel to millimetres (RAS+); none for pictures.
        suffix: of the file it came from, `.nii.gz`.
        header: what the writer of that format needs.
    """

    array: np.ndarray
    affine: np.ndarray | None = None
    suffix: str = ".nii.gz"
    header: Any = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """`*S`."""
        return self.array.shape[1:]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres per voxel along each axis; 1 for pictures."""
        if self.affine is None:
            return (1.0,) * len(self.shape)
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))


def suffix_of(path: Path) -> str | None:
    """The supported suffix of the file's name, or none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """The file's name without its supported suffix."""
    return path.name[: -len(suffix_of(path) or path.suffix) or None]


def read_image(path: Path) -> Image:
    """Read an image. A palette is resolved to the colours it stands for, or to gray.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds values that are not finite.
    """
    image = _read_nifti(path) if _need_suffix(path) != ".png" else _read_png(path, resolve_palette=True)
    if not np.isfinite(image.array).all():
        bad = int((~np.isfinite(image.array)).sum())
        raise UserError(f"{path}: expected finite intensities; {bad} voxels are NaN or infinite. Replace them (with 0, say) first.")
    return image


def read_label(path: Path) -> Image:
    """Read a label image; `array` is `[1, *S]` of whole numbers. A palette's numbers are the classes.

    Raises:
        UserError: as `read_image`, or the values are not whole numbers from 0.
    """
    label = _read_nifti(path) if _need_suffix(path) != ".png" else _read_png(path, resolve_palette=False)
    if label.array.shape[0] != 1:
        raise UserError(f"{path}: expected a label image of one channel; it has {label.array.shape[0]} (shape {label.shape}).")
    rounded = np.round(label.array)
    if not (np.abs(label.array - rounded).max() <= 1e-3 and rounded.min() >= 0 and rounded.max() <= 255):
        raise UserError(
            f"{path}: expected a label image of whole numbers from 0 to 255; its values lie between {label.array.min():g} and "
            f"{label.array.max():g}. Was an image given as a label, or a mask interpolated?"
        )
    return Image(rounded.astype(np.uint8), label.affine, label.suffix, label.header)


def write_label(stem: Path, label: np.ndarray, like: Image) -> Path:
    """Write whole numbers `[*S]` in the format and geometry of `like`.

    Args:
        stem: the path without suffix.
        label: classes.
        like: the image that the label lies on.

    Returns:
        The path written.

    Raises:
        UserError: the place cannot be written.
    """
    path = stem.with_name(stem.name + like.suffix)
    label = label.astype(np.uint8)
    if like.affine is None:
        with replacing(path) as temporary:
            Pillow.fromarray(label).save(temporary, format="PNG")
    else:
        _write_nifti(path, label, like)
    return path


def write_values(stem: Path, values: np.ndarray, like: Image) -> Path:
    """Write numbers from 0 to 1, `[*S]` or `[N, *S]`, in the format and geometry of `like`.

    NIfTI holds float32, with N as the fourth axis. PNG holds 16 bits, 65535 for 1, with the N pictures one below the other.
    """
    path = stem.with_name(stem.name + like.suffix)
    if like.affine is None:
        picture = values.reshape(-1, values.shape[-1])
        with replacing(path) as temporary:
            Pillow.fromarray(np.round(np.clip(picture, 0, 1) * 65535).astype(np.uint16)).save(temporary, format="PNG")
    else:
        _write_nifti(path, (np.moveaxis(values, 0, -1) if values.ndim == 4 else values).astype(np.float32), like)
    return path


def _need_suffix(path: Path) -> str:
    suffix = suffix_of(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file." if not path.exists() else f"{path} is not a file.")
    if suffix is None:
        raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}; its name ends otherwise. Convert it first.")
    return suffix


def _read_nifti(path: Path) -> Image:
    try:
        file: Any = nib.load(path)
        stored = np.dtype(file.get_data_dtype())
        if stored.kind not in "iufb":
            raise UserError(
                f"{path}: expected one number a voxel; it holds {stored} (colours or complex numbers). Convert it first."
            )
        array = np.asarray(file.dataobj, dtype=np.float32)
        affine = np.asarray(file.affine, dtype=np.float64)
    except UserError:
        raise
    except Exception as error:  # nibabel and zlib raise a dozen kinds for damaged files
        raise UserError(
            f"{path} cannot be read as NIfTI: {error or type(error).__name__}. Is the file complete, and is it what its name says?"
        ) from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise UserError(
            f"{path}: expected a volume of 3 axes; it has {array.ndim} (shape {array.shape}). Give one volume of the series."
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UserError(f"{path}: its affine cannot be inverted, so its voxels have no place in space: {affine.tolist()}.")
    return Image(array[None], affine, suffix_of(path) or ".nii.gz", file.header)


def _write_nifti(path: Path, array: np.ndarray, like: Image) -> None:
    header = None if like.header is None else like.header.copy()
    if header is not None:
        stored = header.get_data_shape()
        if array.ndim == 3 and stored[:3] == array.shape and set(stored[3:]) == {1}:
            array = array.reshape(stored)  # the input had further axes of length 1, and so has its mask
        header.set_data_dtype(array.dtype)
        header["cal_min"] = header["cal_max"] = 0
    with replacing(path) as temporary:
        nib.save(nib.Nifti1Image(array, like.affine, header), temporary)


def _read_png(path: Path, resolve_palette: bool) -> Image:
    try:
        with Pillow.open(path) as file:
            array = np.asarray(file.convert("RGBA") if resolve_palette and file.mode in ("P", "PA") else file)
            gray = file.mode in ("P", "PA") and array.ndim == 3 and (array[..., :3] == array[..., :1]).all()
    except Exception as error:  # Pillow raises its own kinds beside OSError, SyntaxError and ValueError
        raise UserError(
            f"{path} cannot be read as PNG: {error or type(error).__name__}. Is the file complete, and is it what its name says?"
        ) from error
    if array.ndim == 3 and array.shape[-1] in (2, 4) and (array[..., -1] == np.iinfo(array.dtype).max).all():
        array = array[..., :-1]  # an alpha channel that hides nothing
    if gray:
        array = array[..., :1]
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Image(channels.astype(np.float32), None, ".png")
