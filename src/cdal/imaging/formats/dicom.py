"""Reading DICOM series and single DICOM files with pydicom and highdicom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom

from cdal.imaging.formats.dicom_codecs import frame_shape, plugin_for
from cdal.imaging.formats.dicom_files import (
    count_of,
    items_of,
    lenient,
    need_pixels,
    numbers_of,
    read_file,
    reason_of,
    text_of,
)
from cdal.imaging.formats.dicom_geometry import Slice, Stack, arrange, has_place, slices_of
from cdal.imaging.formats.dicom_series import choose_series, find_series, is_image
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

_KINDS: dict[str, Callable[[str], Any]] = {
    "PatientBirthDate": pydicom.valuerep.DA,
    "PatientSex": hd.PatientSexValues,
    "StudyDate": pydicom.valuerep.DA,
    "StudyTime": pydicom.valuerep.TM,
}


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
            f"{path}: expected a label image; this DICOM file holds no segmentation that can be "
            "read. Give a DICOM-SEG or RTSTRUCT, or convert the label to NIfTI or NRRD."
        )
    if not path.is_dir():
        return read_series((path,))
    series = find_series(path)
    if not series:
        raise UserError(f"{path} holds no image. Expected a DICOM series.")
    return read_series(choose_series(path, series, None).files)


def read_series(files: Sequence[Path]) -> Image:
    """Read a series or a single file, with rescale slope and intercept applied.

    Large numbers are bright: slices in which low numbers are (`MONOCHROME1`) are inverted before
    that, as in SimpleITK. Padding outside of the scanned field stays as it is.

    Raises:
        UserError: a file is damaged, or the slices do not form a regular volume.
    """
    name = files[0] if len(files) == 1 else files[0].parent
    datasets = _datasets(name, files)
    planar = len(datasets) == 1 and not has_place(datasets[0])
    try:
        with lenient():
            return _picture(datasets[0]) if planar else _volume(datasets)
    except MemoryError:
        raise
    except Exception as error:  # pydicom and highdicom raise many exception types
        known = isinstance(error, UserError)
        why = str(error).rstrip(".") if known else reason_of(error, datasets)
        what = "DICOM" if planar else f"a DICOM series of {len(files)} files"
        raise UserError(f"{name} cannot be read as {what}: {why}.") from error


def _volume(datasets: Sequence[Any]) -> Image:
    """Return slices as a volume."""
    slices = [plane for data in datasets for plane in slices_of(Path(data.filename).name, data)]
    stack = arrange(slices)
    _need_gray(slices)
    _complete(datasets, slices, stack)
    array, stored = _voxels(datasets, slices, stack)
    space = text_of(datasets[0], "FrameOfReferenceUID")
    volume = hd.Volume(array, stack.affine, "PATIENT", space)
    return Image(array[None], LPS @ stack.affine, SUFFIX, Source(datasets, volume), stored)


def _datasets(name: Path, files: Sequence[Path]) -> list[Any]:
    """The datasets of the files; true copies of a file are left out.

    Raises:
        UserError: a file is damaged or no image, or the series is too large.
    """
    datasets: list[Any] = []
    by_uid: dict[str, Any] = {}
    numbers = 0
    for path in files:
        dataset = read_file(path)
        if not is_image(dataset):
            kind = text_of(dataset, "Modality")
            raise UserError(f"{path}: expected a DICOM image; it is an object of the kind {kind}.")
        shape = need_pixels(path, dataset)
        uid = text_of(dataset, "SOPInstanceUID")
        if uid and _is_copy(dataset, by_uid.get(uid)):
            continue
        by_uid.setdefault(uid, dataset)
        numbers += shape[0]
        need_size(name, (numbers, *shape[1:]))
        datasets.append(dataset)
    return datasets


def _is_copy(dataset: Any, other: Any) -> bool:
    """Whether two datasets hold the same slice."""
    return other is not None and all(
        dataset.get(keyword) == other.get(keyword)
        for keyword in ("PixelData", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept")
    )


def _need_gray(slices: Sequence[Slice]) -> None:
    for plane in slices:
        kind = text_of(plane.dataset, "PhotometricInterpretation")
        if count_of(plane.dataset, "SamplesPerPixel") > 1 or kind == "PALETTE COLOR":
            raise UserError(f"expected one number a voxel; {plane.name} has colours ({kind})")


def _voxels(
    datasets: Sequence[Any], slices: Sequence[Slice], stack: Stack
) -> tuple[np.ndarray, np.dtype[Any]]:
    """The volume `[*S]` float32, and the type of the stored numbers."""
    place = {index: k for k, index in enumerate(stack.order)}
    array = np.empty((len(slices), *slices[0].shape), np.float32)
    index, stored = 0, np.dtype(np.uint16)
    for dataset in datasets:
        frames = _decoded(dataset)
        stored = frames.dtype
        for frame in frames:
            plane = slices[index]
            frame = _bright(frame, dataset, plane)
            array[place[index]] = _rescaled(frame, plane.values, plane.name)
            index += 1
    return array, stored.newbyteorder("=")


def _decoded(dataset: Any) -> np.ndarray:
    """The stored numbers of a file, `[frames, rows, columns]` (with colours a further axis).

    Raises:
        UserError: they cannot be decoded.
    """
    name, count = Path(dataset.filename).name, count_of(dataset, "NumberOfFrames")
    shape = (count_of(dataset, "Rows"), count_of(dataset, "Columns"))
    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated:
            for frame in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count):
                if (own := frame_shape(frame)) not in (None, shape):
                    raise ValueError(f"a frame has {own} rows and columns, the header says {shape}")
        plugin = plugin_for(syntax, count_of(dataset, "SamplesPerPixel"))
        pixels = pydicom.pixels.pixel_array(dataset, decoding_plugin=plugin)
    except MemoryError:
        raise
    except Exception as error:  # pydicom and decoders raise many exception types
        raise UserError(
            f"{name} cannot be decoded: {reason_of(error, (dataset,))}. Is it complete?"
        ) from error
    return pixels if count > 1 else pixels[None]


def _bright(stored: np.ndarray, dataset: Any, plane: Slice) -> np.ndarray:
    """The stored numbers of a slice, inverted if low numbers are bright.

    Raises:
        UserError: they are, and the numbers are a quantity, which would be lost by that.
    """
    if text_of(dataset, "PhotometricInterpretation") != "MONOCHROME1":
        return stored
    unit = text_of(plane.values, "RescaleType") or text_of(dataset, "Units")
    if text_of(dataset, "Modality") in ("CT", "PT") or unit not in ("", "US"):
        raise UserError(
            f"{plane.name}: its numbers are a quantity, such as Hounsfield units, and are to be "
            "shown inverted (MONOCHROME1), which programs read in two ways. Convert the series to "
            "MONOCHROME2"
        )
    largest = 2 ** count_of(dataset, "BitsStored") - 1
    return -1 - stored if stored.dtype.kind == "i" else largest - stored


def _rescaled(stored: np.ndarray, values: Any, name: str) -> np.ndarray:
    """The numbers that stored numbers stand for, float32.

    Args:
        stored: stored numbers.
        values: dataset with their slope and intercept, or their table.
        name: name of the slice.

    Raises:
        UserError: the numbers are not finite.
    """
    if items_of(values, "ModalityLUTSequence"):
        array = np.asarray(pydicom.pixels.apply_modality_lut(stored, values), np.float32)
    else:
        slope = numbers_of(values, "RescaleSlope", 1, name)
        intercept = numbers_of(values, "RescaleIntercept", 1, name)
        scaled = stored * (1.0 if slope is None else slope[0])
        array = (scaled + (0.0 if intercept is None else intercept[0])).astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{name}: expected finite intensities; some are NaN or infinite")
    return array


def _complete(datasets: Sequence[Any], slices: Sequence[Slice], stack: Stack) -> None:
    """Add attributes that a segmentation of the series needs; files often lack them.

    Positions become those of the volume, so that rounding in the files does not matter.
    """
    known = {text_of(data, "FrameOfReferenceUID"): data for data in datasets}
    known.pop("", None)
    if len(known) > 1:
        names = " and ".join(Path(data.filename).name for data in known.values())
        raise UserError(
            f"{names} have different frames of reference (FrameOfReferenceUID), so their places "
            "cannot be compared"
        )
    uid = next(iter(known), "") or pydicom.uid.generate_uid(
        entropy_srcs=["frame of reference", text_of(datasets[0], "SeriesInstanceUID")]
    )
    for dataset in datasets:
        _fill(dataset)
        dataset.FrameOfReferenceUID = uid
        if not _is_positive(text_of(dataset, "SliceThickness")):
            dataset.SliceThickness = float(np.linalg.norm(stack.affine[:3, 0]))
    for k, index in enumerate(stack.order):
        if "SharedFunctionalGroupsSequence" not in (dataset := slices[index].dataset):
            place = stack.affine[:3, 0] * k + stack.affine[:3, 3]
            dataset.ImagePositionPatient = [round(float(x), 6) for x in place]


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < np.inf
    except ValueError:
        return False


def _fill(dataset: Any) -> None:
    """Add attributes that may be empty but must exist; anonymised files often lack them.

    Those whose value is none of their kind become empty, and of several values the first is kept:
    highdicom refuses them.
    """
    for name in _MAY_BE_EMPTY:
        text, *more = text_of(dataset, name).split("\\")
        if more:
            setattr(dataset, name, text)
        try:
            valid = _KINDS[name](text) is not None if text and name in _KINDS else bool(text)
        except ValueError:
            valid = False
        if not valid:
            setattr(dataset, name, "")


def _picture(dataset: Any) -> Image:
    """Return a radiograph as an image in which large values are bright."""
    if (count := count_of(dataset, "NumberOfFrames")) > 1:
        raise UserError(
            f"expected one picture; it holds {count} frames without a place in space. Save one of "
            "them"
        )
    (stored,) = _decoded(dataset)
    kind = text_of(dataset, "PhotometricInterpretation")
    if kind == "PALETTE COLOR":
        stored = pydicom.pixels.apply_color_lut(stored, dataset)
    array = _rescaled(stored, dataset, Path(dataset.filename).name)
    if kind == "MONOCHROME1":
        array = array.max() + array.min() - array
    _fill(dataset)
    channels = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    return Image(channels, None, SUFFIX, Source([dataset], None), stored.dtype)
