"""New DICOM files, with the fields that do not depend on what a test is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def new_file(kind: str, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """A file of a SOP class, with an identifier of its own."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = kind, syntax
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    return file


def new_slices(
    kind: str, modality: str, planes: Iterable[np.ndarray], patient: str = "1"
) -> Iterator[FileDataset]:
    """The slices of a series, of 16 bits each, with everything but a name and a place."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for i, plane in enumerate(planes):
        file = new_file(kind)
        file.StudyInstanceUID, file.SeriesInstanceUID = study, series
        file.FrameOfReferenceUID, file.InstanceNumber = frame, i + 1
        file.Modality, file.PatientID, file.PatientName = modality, patient, "A^B"
        file.PatientBirthDate = file.PatientSex = file.AccessionNumber = ""
        file.ReferringPhysicianName, file.Manufacturer, file.StudyID = "", "x", "1"
        file.StudyDate, file.StudyTime = "20260101", "120000"
        file.Rows, file.Columns = plane.shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
        file.PixelRepresentation = int(plane.dtype.kind == "i")
        file.PixelData = np.ascontiguousarray(plane).tobytes()
        yield file
