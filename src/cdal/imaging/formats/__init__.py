"""Reading and writing image files, one module for each library that knows the format.

A reader returns an `Image` that remembers its geometry; a writer takes the image it belongs to, so that a mask cannot lose its
place. Files appear whole or not at all.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cdal.imaging.image import Image
from cdal.runtime.errors import UserError


class _Format(NamedTuple):
    name: str
    module: str
    """Imported when a file of the format is met: a user of NIfTI need not wait for the others."""

    def read(self, path: Path, as_label: bool) -> Image:
        image = getattr(importlib.import_module(f"cdal.imaging.formats.{self.module}"), f"read_{self.module}")(path, as_label)
        assert isinstance(image, Image)
        return image

    def write(self, path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
        getattr(importlib.import_module(f"cdal.imaging.formats.{self.module}"), f"write_{self.module}")(path, array, like, labels)


_FORMATS = {
    ".nii.gz": _Format("NIfTI", "nifti"),
    ".nii": _Format("NIfTI", "nifti"),
    ".png": _Format("PNG", "picture"),
    ".jpg": _Format("JPEG", "picture"),
    ".jpeg": _Format("JPEG", "picture"),
    ".bmp": _Format("BMP", "picture"),
    ".tif": _Format("TIFF", "tiff"),
    ".tiff": _Format("TIFF", "tiff"),
    ".nrrd": _Format("NRRD", "itk"),
    ".nhdr": _Format("NRRD", "itk"),
    ".mha": _Format("MetaImage", "itk"),
    ".mhd": _Format("MetaImage", "itk"),
    ".npy": _Format("NumPy", "npy"),
}


SUFFIXES = tuple(_FORMATS)
"""What can be read; the longest that fits a name is taken."""


def suffix_of(path: Path) -> str | None:
    """The supported suffix of the file's name, or none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """The file's name without its supported suffix."""
    return path.name[: -len(suffix_of(path) or path.suffix) or None]


def read_image(path: Path) -> Image:
    """Read an image. A palette is resolved to the colours it stands for, or to gray; an alpha channel is left out.

    Raises:
        UserError: the file is missing, damaged, too large, of another kind, or holds values that are not finite.
    """
    image = read_any(path)
    if bad := image.array.size - int(np.isfinite(image.array).sum()):
        raise UserError(f"{path}: expected finite intensities; {bad} voxels are NaN or infinite. Replace them (with 0, say) first.")
    return image


def read_any(path: Path) -> Image:
    """As `read_image`, but for values that are not finite."""
    return _read(path, as_label=False)


def read_label(path: Path) -> Image:
    """Read a label image; `array` is `[1, *S]` of whole numbers (int32).

    A palette's numbers are the values. Gray saved as three channels is one; colours are 65536 red + 256 green + blue.

    Raises:
        UserError: as `read_image`, or the values are not whole numbers from 0.
    """
    label = _read(path, as_label=True)
    array = label.array
    if len(array) == 3:
        code = array if (array == array[:1]).all() else np.tensordot(np.array([65536, 256, 1], np.float32), array, 1)[None]
        array = code[:1]
    if len(array) != 1:
        raise UserError(f"{path}: expected a label image of one channel, or colours; it has {len(array)} (shape {label.shape}).")
    finite = np.isfinite(array).all()
    rounded = np.round(array)
    if not finite or not (np.abs(array - rounded).max() <= 1e-3 and rounded.min() >= 0 and rounded.max() < 2**24):
        raise UserError(
            f"{path}: expected a label image of whole numbers from 0; its values lie between {array.min():g} and "
            f"{array.max():g}. Was an image given as a label, or a mask interpolated?"
        )
    return Image(rounded.astype(np.int32), label.affine, label.suffix, label.header, label.stored)


def write_label(stem: Path, label: np.ndarray, like: Image) -> Path:
    """Write whole numbers `[*S]` or `[N, *S]` in the format and geometry of `like`: uint8, or more bits where they are needed.

    Args:
        stem: the path without suffix.
        label: classes, or the numbers of instances.
        like: the image that the label lies on.

    Returns:
        The path written.

    Raises:
        UserError: the place cannot be written.
    """
    path = stem.with_name(stem.name + like.suffix)
    largest = int(label.max(initial=0))
    kind = np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32
    _FORMATS[like.suffix].write(path, label.astype(kind), like, labels=True)
    return path


def write_values(stem: Path, values: np.ndarray, like: Image) -> Path:
    """Write numbers from 0 to 1, `[*S]` or `[N, *S]`, in the format and geometry of `like`.

    float32; but PNG holds 16 bits, 65535 for 1, with the N pictures one below the other.
    """
    path = stem.with_name(stem.name + like.suffix)
    whole = np.round(np.clip(values, 0, 1) * 65535).astype(np.uint16) if like.suffix == ".png" else values.astype(np.float32)
    _FORMATS[like.suffix].write(path, whole, like, labels=False)
    return path


def _read(path: Path, as_label: bool) -> Image:
    suffix = suffix_of(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file." if not path.exists() else f"{path} is not a file.")
    if suffix is None:
        raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}, or DICOM; it is neither. Convert it first.")
    try:
        return _FORMATS[suffix].read(path, as_label)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the libraries raise dozens of kinds for damaged files
        reason: Any = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{path} cannot be read as {_FORMATS[suffix].name}: {reason[-1]}. Is the file complete, and is it what its name says?"
        ) from error
