"""Image formats: the table of formats, and reading and writing files.

A reader returns an `Image` with its geometry. A writer takes the image that a result belongs to, so
that masks keep this geometry. Files are written completely or not at all. To add a format, write a
module in this package with the functions described in `Format`, and add a row to `FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.formats.quiet import quiet
from cdal.imaging.image import Image, need_regular
from cdal.imaging.rows import Rows
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Format:
    """An image format.

    Attributes:
        name: name of the format.
        suffixes: suffixes of its files, the longest first.
        module: module of this package with the functions `read(path, as_label) -> Image` and
            `write(path, array, like, labels)`. It may also have `open_rows(path, scratch)`, which
            reads a large picture a few rows at a time. The module is imported when it is first
            needed, so that users of one format do not wait for the libraries of the others.
        written: whether results can be written in this format.
        fourth_axis: whether a volume may have a fourth axis, of channels or of time; `read` then
            takes the number of channels that the caller expects there.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    written: bool = True
    fourth_axis: bool = False

    def read(self, path: Path, as_label: bool, fourth_axis: int = 0) -> Image:
        """Read the image of a file; see `read_image` for `fourth_axis`."""
        more = (fourth_axis,) if self.fourth_axis else ()
        image: Image = self._functions.read(path, as_label, *more)
        return image

    def write(self, path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
        """Write `[*S]` or `[N, *S]` to a file with the geometry of `like`."""
        self._functions.write(path, array, like, labels)

    @contextmanager
    def open_rows(self, path: Path, scratch: Path | None) -> Iterator[Rows | None]:
        """Open a large picture, see `cdal.imaging.open`.

        Yields:
            The picture; `None` if the file is small or its format is decoded in one piece.
        """
        opener = getattr(self._functions, "open_rows", None)
        if opener is None:
            yield None
            return
        with opener(path, scratch) as rows:
            yield rows

    @property
    def _functions(self) -> Any:
        return importlib.import_module(f"{__name__}.{self.module}")


DICOM = Format("DICOM", (".dicom", ".dcm", ".ima"), "dicom", written=False)
"""Also recognised by content, because DICOM files often have no suffix.

A folder can be read too, because a series has one file per slice.
"""

FORMATS = (
    Format("NIfTI", (".nii.gz", ".nii"), "nifti", fourth_axis=True),
    Format("PNG", (".png",), "picture"),
    Format("JPEG", (".jpg", ".jpeg"), "picture"),
    Format("BMP", (".bmp",), "picture"),
    Format("TIFF", (".ome.tif", ".ome.tiff", ".tif", ".tiff"), "tiff"),
    Format("NRRD", (".seg.nrrd", ".nrrd", ".nhdr"), "nrrd", fourth_axis=True),
    Format("MetaImage", (".mha", ".mhd"), "meta_image", fourth_axis=True),
    Format("NumPy", (".npy",), "npy"),
    DICOM,
    Format(
        "whole slide",
        (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu"),
        "slide",
        written=False,
    ),
)

_BY_SUFFIX = {suffix: known for known in FORMATS for suffix in known.suffixes}

_FILES_PROBED = 4
"""Files of a folder checked for DICOM; the first may be a DICOMDIR or a text file."""

SUFFIXES = tuple(_BY_SUFFIX)
"""All suffixes that can be read. Of those that match a name, the longest is used."""


def suffix_of(path: Path) -> str | None:
    """Return the supported suffix of a file name, or `None`."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """Return a file name without its supported suffix.

    Other suffixes stay: names of DICOM files are often numbers with dots.
    """
    return path.name[: -len(suffix_of(path) or "") or None]


def format_of(path: Path) -> Format | None:
    """Return the format of a path, or `None` if it is unknown.

    Files are recognised by their suffix; DICOM files also by their first bytes. Folders count as
    DICOM.
    """
    suffix = None if path.is_dir() else suffix_of(path)
    if suffix is not None:
        return _BY_SUFFIX[suffix]
    return DICOM if path.is_dir() or is_dicom(path) else None


def holds_series(folder: Path) -> bool:
    """Whether the first files of a folder include DICOM; subfolders are not searched."""
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    return any(is_dicom(path) for path in files[:_FILES_PROBED])


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, judged by its first bytes; pipes and devices are not opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_image(path: Path, fourth_axis: int = 0) -> Image:
    """Read an image.

    Palettes are resolved to colours or gray values; alpha channels are dropped.

    Args:
        path: path of the file, or of the folder of a DICOM series.
        fourth_axis: number of channels that the fourth axis of a volume has, if it is not time: the
            file alone does not tell.

    Raises:
        UserError: the file is missing, damaged, too large, of an unknown format, or has values that
            are not finite.
    """
    image = read_any(path, fourth_axis)
    if bad := image.array.size - int(np.isfinite(image.array).sum()):
        raise UserError(
            f"{path}: expected finite intensities; {bad} voxels are NaN or infinite. Replace them "
            "(with 0, say) first."
        )
    return image


def read_any(path: Path, fourth_axis: int = 0) -> Image:
    """Read an image like `read_image`, but accept values that are not finite."""
    return _read(path, as_label=False, fourth_axis=fourth_axis)


def read_label(path: Path) -> Image:
    """Read a label image; `array` is `[1, *S]` of whole numbers (int32).

    For files with a palette, the values are the palette indices, unless the palette shows that
    these stand for gray values or are in no order (see `palette.label_of_palette`). Gray images
    saved as three equal channels are read as one channel. Colours become 65536 * red + 256 * green
    + blue.

    Raises:
        UserError: as for `read_image`, or the values are not whole numbers from 0.
    """
    label = _read(path, as_label=True)
    with quiet():
        return replace(label, array=_whole_numbers(path, label))


def _whole_numbers(path: Path, label: Image) -> np.ndarray:
    """Return a label of one channel, `[1, *S]` int32; errors as for `read_label`."""
    array = label.array
    if len(array) == 3:
        code = (
            array
            if (array == array[:1]).all()
            else np.tensordot(np.array([65536, 256, 1], np.float32), array, 1)[None]
        )
        array = code[:1]
    if len(array) != 1:
        raise UserError(
            f"{path}: expected a label image of one channel, or colours; it has {len(array)} "
            f"(shape {label.shape})."
        )
    finite = np.isfinite(array).all()
    rounded = np.round(array)
    if not finite or not (
        np.abs(array - rounded).max() <= 1e-3 and rounded.min() >= 0 and rounded.max() < 2**24
    ):
        raise UserError(
            f"{path}: expected a label image of whole numbers from 0; its values lie between "
            f"{array.min():g} and {array.max():g}. Was an image given as a label, or a mask "
            "interpolated?"
        )
    return rounded.astype(np.int32)


def write_label(stem: Path, label: np.ndarray, like: Image) -> Path:
    """Write whole numbers in the format and geometry of an image.

    The type is uint8, or uint16 or int32 if the numbers are larger.

    Args:
        stem: path without suffix.
        label: classes or object numbers, `[*S]` or `[N, *S]`.
        like: image that the label belongs to.

    Returns:
        The path of the file.

    Raises:
        UserError: the file cannot be written.
    """
    path = stem.with_name(stem.name + like.suffix)
    largest = int(label.max(initial=0))
    kind = np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32
    _BY_SUFFIX[like.suffix].write(path, label.astype(kind), like, labels=True)
    return path


def write_values(stem: Path, values: np.ndarray, like: Image) -> Path:
    """Write numbers from 0 to 1 in the format and geometry of an image.

    Numbers are stored as float32. PNG stores 16 bits instead: 65535 means 1, and N pictures are
    stacked vertically.

    Args:
        stem: path without suffix.
        values: numbers, `[*S]` or `[N, *S]`.
        like: image that the values belong to.

    Returns:
        The path of the file.

    Raises:
        UserError: the file cannot be written.
    """
    path = stem.with_name(stem.name + like.suffix)
    whole = (
        np.round(np.clip(values, 0, 1) * 65535).astype(np.uint16)
        if like.suffix == ".png"
        else values.astype(np.float32)
    )
    _BY_SUFFIX[like.suffix].write(path, whole, like, labels=False)
    return path


def _read(path: Path, as_label: bool, fourth_axis: int = 0) -> Image:
    if not path.is_dir():
        need_regular(path)
    image_format = format_of(path)
    if image_format is None:
        raise UserError(
            f"{path}: expected one of {', '.join(SUFFIXES)}, or DICOM; it is neither. Convert it "
            "first."
        )
    with readable(path, image_format.name):
        return image_format.read(path, as_label, fourth_axis)


@contextmanager
def readable(path: Path, name: str) -> Iterator[None]:
    """Turn any error that a library raises for a damaged file into a `UserError`.

    What libraries would print meanwhile is dropped.

    Args:
        path: path of the file.
        name: name of its format.
    """
    try:
        with quiet():
            yield
    except (UserError, ImportError):  # a missing library says nothing about the file
        raise
    except MemoryError as error:
        raise UserError(
            f"{path} cannot be read as {name}: it needs more memory than there is. Is the file "
            "damaged? Otherwise crop it, or end other programs."
        ) from error
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{path} cannot be read as {name}: {reason[-1][:300]}. Is the file complete, and is it "
            "what its name says?"
        ) from error
