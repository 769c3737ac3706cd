"""DICOM series that are not clean, and what other programs make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    JPEGLosslessSV1,
)

from cdal.imaging.formats.dicom import read_series
from cdal.imaging.formats.dicom_files import lenient
from cdal.imaging.formats.dicom_series import find_series
from cdal.imaging.image import Image
from helpers.slices import new_slices


def axial_series(
    folder: Path,
    volume: np.ndarray,
    spacing: tuple[float, float, float] = (2.0, 0.9, 0.8),
    change: Callable[[int, Any], object] = lambda i, file: None,
) -> Path:
    """An axial series `000.dcm`, `001.dcm`, ... of `[slices, rows, columns]`, of 16 bits.

    Args:
        folder: folder of the files.
        volume: stored numbers.
        spacing: distances between slices, rows and columns in mm.
        change: bends a slice, `(number, dataset)`; leaves it out by returning False.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, file in enumerate(new_slices(CTImageStorage, "CT", volume)):
        file.SeriesDescription, file.SeriesNumber = "axial", 2
        file.PixelSpacing, file.SliceThickness = list(spacing[1:]), spacing[0]
        file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        file.ImagePositionPatient = [-10, -20, -30 + spacing[0] * i]
        with lenient():
            if change(i, file) is not False:
                file.save_as(folder / f"{i:03d}.dcm", enforce_file_format=True)
    return folder


def deflated(_: int, file: Any) -> None:
    """Write a slice in the deflated syntax; for `axial_series`."""
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def jpeg_lossless(_: int, file: Any) -> None:
    """Compress a slice of 16 unsigned bits; for `axial_series`."""
    pixels = np.frombuffer(file.PixelData, np.uint16).reshape(file.Rows, file.Columns)
    file.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    file.PixelData = encapsulate([imagecodecs.ljpeg_encode(pixels, bitspersample=16)])
    file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True


def enhanced_ct(path: Path, volume: np.ndarray, heights: list[float], slopes: list[float]) -> Path:
    """An enhanced CT of one file, its frames at the given heights, each with its own slope."""
    axial_series(path.parent / "one", volume[:1])
    file = pydicom.dcmread(path.parent / "one" / "000.dcm")
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(file, tag)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    file.NumberOfFrames, file.PixelData = len(volume), volume.tobytes()

    def item(**fields: object) -> Dataset:
        made = Dataset()
        for keyword, value in fields.items():
            setattr(made, keyword, value)
        return made

    file.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.9, 0.8], SliceThickness=2)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, height])],
            PixelValueTransformationSequence=[
                item(RescaleSlope=slope, RescaleIntercept=-5, RescaleType="US")
            ],
        )
        for height, slope in zip(heights, slopes, strict=True)
    ]
    file.save_as(path, enforce_file_format=True)
    return path


def read_folder(folder: Path) -> Image:
    """The only series of a folder."""
    (series,) = find_series(folder)
    return read_series(series.files)


def by_gdcm(folder: Path) -> sitk.Image:
    """The series as SimpleITK's own reader sees it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def assert_same_volume(image: Image, theirs: sitk.Image, tolerance: float = 1e-3) -> None:
    """Every voxel has its number, and its place to so many mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(theirs.GetDirection()).reshape(3, 3) * np.array(theirs.GetSpacing())
    affine[:3, 3] = theirs.GetOrigin()
    values = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
    index = np.argwhere(np.ones(image.shape, bool))
    there = (np.c_[index, np.ones(len(index))] @ image.affine.T * (-1, -1, 1, 1)) @ np.linalg.inv(
        affine
    ).T
    nearest = np.round(there[:, :3]).astype(int)
    assert np.abs((there[:, :3] - nearest) * theirs.GetSpacing()).max() < tolerance
    np.testing.assert_allclose(image.array[0].ravel(), values[tuple(nearest.T)], rtol=1e-6)
