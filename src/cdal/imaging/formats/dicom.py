"""Reading DICOM series and single DICOM files with pydicom and highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom

from cdal.imaging.formats import is_dicom, suffix_of
from cdal.imaging.image import LPS, Image, need_size
from cdal.runtime.errors import UserError

SUFFIX = ".dcm"
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)

_NOT_IMAGES = {"SEG", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE", "PR", "KO", "REG"}


@dataclass(frozen=True)
class Series:
    """The files of a DICOM series.

    Attributes:
        uid: SeriesInstanceUID.
        description: SeriesDescription.
        number: SeriesNumber, its number within the study.
        files: paths of its files, not in slice order.
        planar: whether its files are separate images without a position in space (radiographs).
    """

    uid: str
    description: str
    number: str
    files: tuple[Path, ...]
    planar: bool = False

    def is_called(self, name: str) -> bool:
        """Whether a name is the series' UID, number or description."""
        return name in (self.uid, self.number) or name.lower() == self.description.lower()


@dataclass(frozen=True)
class Source:
    """The DICOM datasets of an image, and its volume (`None` for a radiograph)."""

    datasets: Sequence[Any]
    volume: Any


def read(path: Path, as_label: bool) -> Image:
    """Read a file, or the only series in a folder.

    Raises:
        UserError: as for `find_series`, `choose_series` and `read_series`.
    """
    if as_label:
        raise UserError(
            f"{path}: expected a label image; DICOM holds images. Convert the label to NIfTI or "
            "NRRD."
        )
    if not path.is_dir():
        return read_series((path,))
    series = find_series(path)
    if not series:
        raise UserError(f"{path} holds no image. Expected a DICOM series.")
    return read_series(choose_series(path, series, None).files)


def find_series(folder: Path) -> list[Series]:
    """Find the image series in a folder and its subfolders without decoding pixels.

    Raises:
        UserError: a file that should be a slice cannot be read. It is not skipped, because the
            volume would be wrong without it.
    """
    files = [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and suffix_of(p) in (None, SUFFIX) and not p.name.startswith(".")
    ]
    files = [p for p in files if p.name.upper() != "DICOMDIR"]
    kinds = {(p.parent, p.suffix.lower()) for p in files if is_dicom(p)}
    grouped: dict[str, list[Path]] = {}
    headers: dict[str, Any] = {}
    for path in files:
        if (path.parent, path.suffix.lower()) not in kinds:
            continue
        header = _header(path)
        if header.get("Modality") in _NOT_IMAGES:
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        if not uid or not header.get("Rows") or not header.get("Columns"):
            raise UserError(
                f"{path}: expected a DICOM image; it lacks its series or its size. Is it complete? "
                "Otherwise remove it."
            )
        grouped.setdefault(uid, []).append(path)
        headers[uid] = header
    return [
        Series(
            uid,
            str(headers[uid].get("SeriesDescription", "")),
            str(headers[uid].get("SeriesNumber", "")),
            tuple(paths),
            not _has_place(headers[uid]),
        )
        for uid, paths in grouped.items()
    ]


def choose_series(folder: Path, found: Sequence[Series], name: str | None) -> Series:
    """Return the series with the given name.

    Args:
        folder: folder that was searched, for the message.
        found: series in the folder.
        name: UID, number or description; `None` if there is only one series.

    Raises:
        UserError: several series match, or none does; the message lists the series.
    """
    chosen = [series for series in found if name is None or series.is_called(name)]
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(
        f"{s.number or '-'}: {s.description or 'no description'} ({len(s.files)} files, {s.uid})"
        for s in found
    )
    problem = f"no series is called {name!r}" if not chosen else f"{len(chosen)} series are there"
    raise UserError(
        f"{folder}: {problem}. Choose one by number, description or UID (cdal predict --series "
        f"NAME), or keep one in the folder, among: {listed}."
    )


def read_series(files: Sequence[Path]) -> Image:
    """Read a series or a single file, with rescale slope and intercept applied.

    Raises:
        UserError: a file is damaged, or the slices do not form a regular volume.
    """
    name = files[0] if len(files) == 1 else files[0].parent
    header = _header(files[0])
    try:
        need_size(
            name,
            (
                len(files) * int(header.get("NumberOfFrames", 1) or 1),
                int(header.Rows),
                int(header.Columns),
            ),
        )
        with warnings.catch_warnings():
            # Most files deviate from the standard in ways that do not matter here.
            warnings.simplefilter("ignore")
            datasets = [pydicom.dcmread(path) for path in files]
            if len(datasets) == 1 and not _has_place(datasets[0]):
                return _picture(name, datasets[0])
            options: dict[str, Any] = {
                "apply_real_world_transform": False,
                "apply_voi_transform": False,
            }
            if len(datasets) == 1 and int(datasets[0].get("NumberOfFrames", 1) or 1) > 1:
                volume = hd.imread(files[0]).get_volume(**options)
            else:
                volume = hd.get_volume_from_series(datasets, **options)
    except UserError:
        raise
    except Exception as error:  # pydicom and highdicom raise many exception types
        culprit = next(
            (f" {path.name} cannot be decoded." for path in files if not _can_be_decoded(path)), ""
        )
        raise UserError(
            f"{name} cannot be read as a DICOM series of {len(files)} files: {error}.{culprit} Are "
            "all slices there, each once, complete, at even distances?"
        ) from error
    array = np.asarray(volume.array, np.float32)
    if array.ndim != 3:
        raise UserError(
            f"{name}: expected one number a voxel; it has colours (shape {array.shape})."
        )
    for dataset in datasets:
        _fill(dataset)
        if not dataset.get("SliceThickness"):
            dataset.SliceThickness = float(volume.spacing[0])
    stored = np.dtype(
        f"{'i' if datasets[0].PixelRepresentation else 'u'}{max(1, datasets[0].BitsAllocated // 8)}"
    )
    return Image(array[None], LPS @ volume.affine, SUFFIX, Source(datasets, volume), stored)


def _header(path: Path) -> Any:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for name in (
            "Modality",
            "SeriesInstanceUID",
            "SeriesDescription",
            "SeriesNumber",
            "Rows",
            "Columns",
            "NumberOfFrames",
        ):
            header.get(name)  # pydicom decodes an element on first access
        return header
    except Exception as error:  # damaged headers raise many exception types
        raise UserError(
            f"{path} cannot be read as DICOM: {error}. Is the file complete? Otherwise remove it."
        ) from error


def _fill(dataset: Any) -> None:
    """Add attributes that may be empty but must exist; anonymised files often lack them."""
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")


def _can_be_decoded(path: Path) -> bool:
    try:
        return pydicom.dcmread(path).pixel_array is not None
    except Exception:
        return False


def _has_place(dataset: Any) -> bool:
    """Whether a dataset has a position in space: a slice has one, a projection has none."""
    return "ImagePositionPatient" in dataset or "SharedFunctionalGroupsSequence" in dataset


def _picture(name: Path, dataset: Any) -> Image:
    """Return a radiograph as an image in which large values are bright."""
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise UserError(
            f"{name}: expected one picture; it holds {dataset.NumberOfFrames} frames without a "
            "place in space."
        )
    stored = dataset.pixel_array
    array = np.asarray(pydicom.pixels.apply_modality_lut(stored, dataset), np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        array = array.max() + array.min() - array
    _fill(dataset)
    channels = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    return Image(channels, None, SUFFIX, Source([dataset], None), stored.dtype)
