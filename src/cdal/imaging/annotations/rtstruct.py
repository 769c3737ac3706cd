"""RTSTRUCT: structures as contours in the patient's axes, read and written with pydicom.

A structure is a set of closed contours in the planes of slices. Contours of one plane that lie in
each other cut holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from skimage.measure import approximate_polygon, find_contours

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.dicom_references import need_reference
from cdal.imaging.annotations.dicom_seg import joined
from cdal.imaging.annotations.polygons import fill, nothing
from cdal.imaging.formats.dicom import Source
from cdal.imaging.formats.dicom_files import items_of, lenient, read_file, sop_class_of, text_of
from cdal.imaging.formats.dicom_geometry import slices_of
from cdal.imaging.image import LPS, Image
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing
from cdal.runtime.version import __version__

_FLAT = 0.5
"""Largest extent of a contour across its slice, in slices."""

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "")
"""Types of contours that have an inside; points and open lines have none."""

_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178))


def recognises(path: Path) -> bool:
    """Whether a file is an RTSTRUCT."""
    return sop_class_of(path) == RTStructureSetStorage


def class_names(path: Path) -> tuple[str, ...]:
    """Names of the structures, in the order of the file.

    Structures that only consist of points or open lines are left out.

    Raises:
        UserError: the file is damaged, or has no structure.
    """
    return tuple(dict.fromkeys(name for name, _ in _structures(path, read_file(path))))


def read(path: Path, like: Image, image: str = "") -> list[Segment]:
    """Read the structures of a volume, in the order of the file.

    A voxel is inside if its centre is. Each contour belongs to the slice that it is nearest to;
    where the planes of several contours are nearest to one slice, the nearest plane counts. What
    lies beside the image is cut off. Contours without an inside draw nothing; a structure that
    only has such is empty.

    Raises:
        UserError: the file is damaged, was drawn on another series, or a contour lies in no slice.
    """
    dataset = read_file(path)
    need_reference(path, dataset, like)
    if like.affine is None or len(like.shape) != 3:
        raise UserError(f"{path}: contours need a volume with a place in space as their image.")
    segments = []
    for name, contours in _structures(path, dataset):
        rings = [_in_voxels(f"{path}: {name}", contour, like) for contour in contours]
        rings = [ring for ring in rings if len(ring) > 2]
        if rings:
            axis = int(np.argmin([sum(np.ptp(ring[:, k]) for ring in rings) for k in range(3)]))
            segments.append(_segment(f"{path}: {name}", name, rings, axis, like.shape))
        elif contours:
            segments.append(nothing(name, 3))
    return segments


def write_structures(
    path: Path, label: np.ndarray, like: Image, names: Sequence[str], algorithm: str
) -> None:
    """Write classes `[*S]` as contours that refer to the images of their series.

    The contours run midway between the centres of inside and outside voxels. Holes are contours
    inside of others.

    Args:
        path: path of the file.
        label: classes `[*S]`.
        like: image returned by `read_series`.
        names: names of the classes, the background first.
        algorithm: name of the algorithm that made the segmentation.

    Raises:
        UserError: the image is no DICOM series, or the file cannot be written.
    """
    need_series(path, like)
    source = like.header.datasets[0]
    with lenient():
        dataset = _header(source, algorithm)
        dataset.ReferencedFrameOfReferenceSequence = [_space(like.header.datasets)]
        dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
        dataset.RTROIObservationsSequence = []
        for number, name in enumerate(names[1:], start=1):
            _add_structure(dataset, number, name, label == number, like)
        with replacing(path) as temporary:
            # With explicit types, the numbers of a long contour would not fit their length field.
            dataset.save_as(temporary, enforce_file_format=True)


def need_series(path: Path, like: Image) -> None:
    """Require an image that contours can refer to.

    Raises:
        UserError: the image is no DICOM series.
    """
    if not isinstance(like.header, Source) or like.header.volume is None:
        raise UserError(
            f"{path}: an RTSTRUCT refers to the slices of a DICOM series, which this image is not. "
            "Leave rtstruct out, or give the DICOM series."
        )


def _structures(path: Path, dataset: Any) -> list[tuple[str, list[Any]]]:
    """Name and closed contours of each structure; one without any contour was not drawn."""
    drawn: dict[str, list[Any]] = {}
    for item in items_of(dataset, "ROIContourSequence"):
        number = text_of(item, "ReferencedROINumber")
        drawn.setdefault(number, []).extend(items_of(item, "ContourSequence"))
    structures = []
    for item in items_of(dataset, "StructureSetROISequence"):
        number = text_of(item, "ROINumber")
        contours = drawn.pop(number, [])
        closed = [
            contour for contour in contours if text_of(contour, "ContourGeometricType") in _CLOSED
        ]
        if closed or not contours:
            structures.append((text_of(item, "ROIName") or f"structure {number}", closed))
    if any(drawn.values()):
        raise UserError(
            f"{path}: contours belong to the structures {', '.join(drawn)}, which have no name. Is "
            "the file complete?"
        )
    if not structures:
        raise UserError(f"{path}: expected structures; it holds none. Is it the right file?")
    return structures


def _in_voxels(name: str, contour: Any, like: Image) -> np.ndarray:
    """Corners of a contour as voxel indices, `[n, 3]`."""
    try:
        with lenient():
            numbers = np.array([float(x) for x in contour.get("ContourData") or ()])
    except (ValueError, TypeError):
        numbers = np.array([np.nan])
    if len(numbers) % 3 or not np.isfinite(numbers).all():
        raise UserError(
            f"{name}: expected contours of points with three finite numbers. Is the file complete?"
        )
    assert like.affine is not None  # the caller has checked
    to_voxels = np.linalg.inv(like.affine) @ LPS
    return numbers.reshape(-1, 3) @ to_voxels[:3, :3].T + to_voxels[:3, 3]


def _segment(
    where: str, name: str, rings: Sequence[np.ndarray], axis: int, shape: tuple[int, ...]
) -> Segment:
    """The voxels inside of contours.

    Args:
        where: file and name of the structure, for messages.
        name: name of the structure.
        rings: corners of the contours, as voxel indices.
        axis: axis of the image across the contours.
        shape: shape of the image.
    """
    across = [k for k in range(3) if k != axis]
    parts = []
    for index, inside in _by_slice(where, rings, axis, shape[axis]).items():
        # Voxel indices are those of centres; polygons begin at the corner of the first pixel.
        corners = [ring[:, across[::-1]] + 0.5 for ring in inside]
        plane = fill(name, corners, (shape[across[0]], shape[across[1]]))
        if plane.inside.any():
            start = [part.start for part in plane.box]
            start.insert(axis, index)
            parts.append((tuple(start), np.expand_dims(plane.inside, axis)))
    return joined(name, parts) if parts else nothing(name, 3)


def _by_slice(
    where: str, rings: Sequence[np.ndarray], axis: int, count: int
) -> dict[int, list[np.ndarray]]:
    """The contours of each slice.

    Raises:
        UserError: a contour is not parallel to the slices, or lies beside them.
    """
    nearest: dict[int, tuple[float, list[np.ndarray]]] = {}
    for ring in rings:
        if np.ptp(ring[:, axis]) > _FLAT:
            raise UserError(
                f"{where}: expected contours in the planes of the image's slices; one crosses "
                f"{np.ptp(ring[:, axis]):.1f} of them. Was it drawn in another direction?"
            )
        height = float(ring[:, axis].mean())
        index = int(np.clip(np.floor(height + 0.5), 0, count - 1))
        if abs(height - index) > 0.5 + 1e-3:
            raise UserError(
                f"{where}: a contour lies {abs(height - index):.1f} slices beside the image. Was "
                "it drawn on another series, or is a part of the series missing?"
            )
        distance = round(abs(height - index), 2)
        known = nearest.get(index)
        if known is None or distance < known[0]:
            nearest[index] = (distance, [ring])
        elif distance == known[0] and not any(np.array_equal(ring, drawn) for drawn in known[1]):
            known[1].append(ring)
    return {index: found for index, (_, found) in nearest.items()}


def _header(source: Any, algorithm: str) -> Any:
    """A structure set without structures, of the patient and study of the source."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in (
        *("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
        *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
        *("ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID"),
        "PositionReferenceIndicator",
    ):
        if keyword in source:
            dataset[keyword] = source[keyword]
    now = datetime.now()
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        (meta.MediaStorageSOPInstanceUID),
    )
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", pydicom.uid.generate_uid()
    dataset.SeriesNumber, dataset.InstanceNumber = 9001, 1
    dataset.SeriesDescription = f"cDAL {algorithm}"[:64]
    dataset.Manufacturer = dataset.ManufacturerModelName = "cDAL"
    dataset.SoftwareVersions, dataset.OperatorsName = __version__, ""
    dataset.StructureSetLabel = f"cDAL {algorithm}"[:16]
    dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _space(sources: Sequence[Any]) -> Dataset:
    """The frame of reference, study, series and images that the contours refer to."""
    series = Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ContourImageSequence = [_image(source) for source in sources]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    space = Dataset()
    space.FrameOfReferenceUID = sources[0].FrameOfReferenceUID
    space.RTReferencedStudySequence = [study]
    return space


def _image(source: Any, frame: int | None = None) -> Dataset:
    """A reference to an image, or to one of its frames."""
    image = Dataset()
    image.ReferencedSOPClassUID = source.SOPClassUID
    image.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        image.ReferencedFrameNumber = frame
    return image


def _add_structure(dataset: Any, number: int, name: str, inside: np.ndarray, like: Image) -> None:
    """Add the structure of one class, which may be empty."""
    structure, contours, observation = Dataset(), Dataset(), Dataset()
    structure.ROINumber, structure.ROIName = number, name[:64]
    structure.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    structure.ROIGenerationAlgorithm = "AUTOMATIC"
    contours.ReferencedROINumber = number
    contours.ROIDisplayColor = list(_COLOURS[(number - 1) % len(_COLOURS)])
    if drawn := list(_contours(inside, like)):
        contours.ContourSequence = drawn
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    dataset.StructureSetROISequence.append(structure)
    dataset.ROIContourSequence.append(contours)
    dataset.RTROIObservationsSequence.append(observation)


def _contours(inside: np.ndarray, like: Image) -> Iterator[Dataset]:
    """The contours of a mask, slice by slice."""
    images = {
        tuple(np.round(plane.position, 2)): _image(source, frame if len(frames) > 1 else None)
        for source in like.header.datasets
        for frames in [slices_of("", source)]
        for frame, plane in enumerate(frames, start=1)
    }
    to_patient = LPS @ like.affine
    for index in np.flatnonzero(inside.any(axis=(1, 2))):
        image = images.get(tuple(np.round((to_patient @ (index, 0, 0, 1))[:3], 2)))
        for ring in find_contours(np.pad(inside[index], 1).astype(np.uint8), 0.5):
            corners = approximate_polygon(ring, 1e-6)[:-1] - 1
            points = np.c_[np.full(len(corners), index), corners, np.ones(len(corners))]
            contour = Dataset()
            if image is not None:
                contour.ContourImageSequence = [image]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(corners)
            contour.ContourData = [f"{x:.4f}" for x in (points @ to_patient[:3].T).ravel()]
            yield contour
