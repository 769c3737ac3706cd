"""Studies as a scanner and a workstation give them out, made without cDAL."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ImplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)
from skimage.measure import find_contours

from cdal.imaging.formats.dicom_files import lenient
from helpers.slices import new_file, new_slices

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_mr(
    folder: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    patient: str = "1",
    name: Callable[[int], str] = "IM{:04d}".format,
    change: Callable[[int, Any], object] = lambda i, file: None,
    **fields: object,
) -> list[Any]:
    """A series of `[i, j, k]` (whole numbers, RAS+ affine) with a slice for each k.

    Returns:
        The datasets in the order of k.
    """
    folder.mkdir(parents=True, exist_ok=True)
    to_patient = _LPS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    planes = [volume[:, :, k].T.astype("<u2") for k in range(volume.shape[2])]
    files = []
    for k, file in enumerate(new_slices(MRImageStorage, "MR", planes, patient)):
        file.SeriesDescription, file.SeriesNumber = "T1", 3
        file.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        file.SliceThickness = float(spacing[2])
        file.ImageOrientationPatient = [
            round(float(x), 10)
            for x in (*(to_patient[:3, 0] / spacing[0]), *(to_patient[:3, 1] / spacing[1]))
        ]
        file.ImagePositionPatient = [round(float(x), 8) for x in (to_patient @ (0, 0, k, 1))[:3]]
        for keyword, value in fields.items():
            setattr(file, keyword, value)
        with lenient():
            change(k, file)
            file.save_as(folder / name(k), enforce_file_format=True)
        files.append(file)
    return files


def write_seg(
    path: Path,
    sources: Sequence[Any],
    label: np.ndarray,
    names: Sequence[str],
    kind: str = "BINARY",
    **options: object,
) -> Path:
    """A DICOM-SEG of `[i, j, k]` by highdicom; frames without foreground are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    method = hd.AlgorithmIdentificationSequence(
        name="m", version="1", family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type="AUTOMATIC",
            algorithm_identification=method,
        )
        for number, name in enumerate(names, start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd.seg.Segmentation(
            source_images=sources,
            pixel_array=np.moveaxis(label, (2, 1), (0, 1)),
            segmentation_type=kind,
            segment_descriptions=segments,
            series_instance_uid=generate_uid(),
            series_number=100,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="m",
            manufacturer_model_name="m",
            software_versions="1",
            device_serial_number="1",
            **options,
        ).save_as(path)
    return path


def contour(points: np.ndarray, kind: str = "CLOSED_PLANAR") -> Dataset:
    """A contour of points `[n, 3]` in the patient's axes."""
    made = Dataset()
    made.ContourGeometricType, made.NumberOfContourPoints = kind, len(points)
    made.ContourData = [f"{x:.6g}" for x in np.ravel(points)]
    return made


def places(source: Any, pixels: np.ndarray) -> np.ndarray:
    """Pixels `[n, 2]` (row, column) of a slice in the patient's axes, by the standard's equation
    (PS 3.3, C.7.6.2.1-1).
    """
    along_row, along_column = np.reshape(source.ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, source.PixelSpacing)
    return (
        np.array(source.ImagePositionPatient, float)
        + pixels[:, 1:] * between_columns * along_row
        + pixels[:, :1] * between_rows * along_column
    )


def outlines(sources: Sequence[Any], inside: np.ndarray) -> list[Dataset]:
    """Contours of a mask `[i, j, k]`, by scikit-image."""
    return [
        contour(places(source, ring[:-1] - 1))
        for k, source in enumerate(sources)
        for ring in find_contours(np.pad(inside[:, :, k].T, 1).astype(float), 0.5)
    ]


def write_structures_by_hand(
    path: Path, source: Any, structures: Sequence[tuple[str, Sequence[Dataset] | None]]
) -> Path:
    """An RTSTRUCT of structures with contours; `None` for one without a sequence of contours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = new_file(RTStructureSetStorage, ImplicitVRLittleEndian)
    file.Modality, file.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    file.StudyInstanceUID = source.StudyInstanceUID
    file.PatientID, file.PatientName = source.PatientID, source.PatientName
    series, study, space = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    space.FrameOfReferenceUID = source.FrameOfReferenceUID
    space.RTReferencedStudySequence = [study]
    file.ReferencedFrameOfReferenceSequence = [space]
    file.StructureSetROISequence, file.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(structures, start=1):
        structure, drawn = Dataset(), Dataset()
        structure.ROINumber, structure.ROIName = number, name
        drawn.ReferencedROINumber = number
        if contours is not None:
            drawn.ContourSequence = list(contours)
        file.StructureSetROISequence.append(structure)
        file.ROIContourSequence.append(drawn)
    file.save_as(path, enforce_file_format=True)
    return path
