"""Formats of images: which there are, and reading and writing with them.

A reader returns an `Image` that remembers its geometry; a writer takes the image it belongs to, so that a mask cannot lose its
place. Files appear whole or not at all. To add a format: a module here with the functions that `Format` names, and a row in
`FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.image import Image
from cdal.imaging.rows import Rows
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Format:
    """A format of images.

    Attributes:
        name: of the format.
        suffixes: of its files, the longest first.
        module: in this package, with the functions `read(path, as_label) -> Image` and `write(path, array, like, labels)`; perhaps
            `open_rows(path, scratch)`, which reads a large picture some rows at a time. It is imported when a file of the format is
            met: a user of NIfTI need not wait for the others.
        written: whether results can be written in it.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    written: bool = True

    def read(self, path: Path, as_label: bool) -> Image:
        """The image of a file."""
        image: Image = self._functions.read(path, as_label)
        return image

    def write(self, path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
        """Write `[*S]` or `[N, *S]` as a file with the geometry of `like`."""
        self._functions.write(path, array, like, labels)

    @contextmanager
    def open_rows(self, path: Path, scratch: Path | None) -> Iterator[Rows | None]:
        """A large picture, see `cdal.imaging.open`; `None` if the file is small or the format is decoded in one piece."""
        opener = getattr(self._functions, "open_rows", None)
        if opener is None:
            yield None
            return
        with opener(path, scratch) as rows:
            yield rows

    @property
    def _functions(self) -> Any:
        return importlib.import_module(f"{__name__}.{self.module}")


DICOM = Format("DICOM", (".dcm",), "dicom", written=False)
"""Found by its content too, as its files often have no suffix; and in folders, as a series has a file for each slice."""

FORMATS = (
    Format("NIfTI", (".nii.gz", ".nii"), "nifti"),
    Format("PNG", (".png",), "picture"),
    Format("JPEG", (".jpg", ".jpeg"), "picture"),
    Format("BMP", (".bmp",), "picture"),
    Format("TIFF", (".tif", ".tiff"), "tiff"),
    Format("NRRD", (".nrrd", ".nhdr"), "itk"),
    Format("MetaImage", (".mha", ".mhd"), "itk"),
    Format("NumPy", (".npy",), "npy"),
    DICOM,
    Format("whole slide", (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu"), "slide", written=False),
)

_BY_SUFFIX = {suffix: one for one in FORMATS for suffix in one.suffixes}

_LOOKED_AT = 4
"""Files of a folder by which a series is recognised; the first may be a DICOMDIR or a note."""

SUFFIXES = tuple(_BY_SUFFIX)
"""What can be read; the longest that fits a name is taken."""


def suffix_of(path: Path) -> str | None:
    """The supported suffix of the file's name, or `None`."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """The file's name without its supported suffix."""
    return path.name[: -len(suffix_of(path) or path.suffix) or None]


def format_of(path: Path) -> Format | None:
    """The format of a file, by its suffix or, if it is DICOM, by its first bytes; DICOM for a folder; else `None`."""
    suffix = None if path.is_dir() else suffix_of(path)
    if suffix is not None:
        return _BY_SUFFIX[suffix]
    return DICOM if path.is_dir() or is_dicom(path) else None


def holds_series(folder: Path) -> bool:
    """Whether a folder's own files are DICOM, by the first of them."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return any(is_dicom(path) for path in files[:_LOOKED_AT])


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


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
    _BY_SUFFIX[like.suffix].write(path, label.astype(kind), like, labels=True)
    return path


def write_values(stem: Path, values: np.ndarray, like: Image) -> Path:
    """Write numbers from 0 to 1, `[*S]` or `[N, *S]`, in the format and geometry of `like`.

    float32; but PNG holds 16 bits, 65535 for 1, with the N pictures one below the other.
    """
    path = stem.with_name(stem.name + like.suffix)
    whole = np.round(np.clip(values, 0, 1) * 65535).astype(np.uint16) if like.suffix == ".png" else values.astype(np.float32)
    _BY_SUFFIX[like.suffix].write(path, whole, like, labels=False)
    return path


def _read(path: Path, as_label: bool) -> Image:
    found = format_of(path)
    if not path.exists():
        raise UserError(f"{path}: no such file.")
    if found is None:
        raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}, or DICOM; it is neither. Convert it first.")
    with readable(path, found.name):
        return found.read(path, as_label)


@contextmanager
def readable(path: Path, name: str) -> Iterator[None]:
    """Turn what libraries raise for a damaged file, which is of dozens of kinds, into a `UserError`; `name` is the format's."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{path} cannot be read as {name}: {reason[-1]}. Is the file complete, and is it what its name says?"
        ) from error
