"""Series that are not clean: read as SimpleITK reads them, or refused with the slice named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from cdal.imaging.annotations import ANNOTATIONS
from cdal.imaging.annotations.dicom_seg import write_segmentation
from cdal.imaging.annotations.rtstruct import write_structures
from cdal.imaging.formats import read_image
from cdal.runtime.errors import UserError
from helpers.dicom import (
    assert_same_volume,
    axial_series,
    by_gdcm,
    enhanced_ct,
    read_folder,
)
from helpers.files import numbers

VOLUME = numbers((9, 12, 14), np.uint16)


def at(*place: float) -> list[float]:
    return [float(x) for x in place]


def test_rounded_positions_are_read_at_even_distances(tmp_path: Path):
    """SimpleITK reads it too, with the distance between the first and the last slice."""

    def rounded(i: int, file: Any) -> None:
        file.ImagePositionPatient = at(-10, -20, round(-30 + 1.25 * i, 1))

    image = read_folder(axial_series(tmp_path / "s", VOLUME, (1.25, 0.9, 0.8), rounded))
    assert image.spacing == pytest.approx((1.25, 0.9, 0.8), abs=0.01)
    assert_same_volume(image, by_gdcm(tmp_path / "s"), tolerance=0.1)
    write_segmentation(
        tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "a"), "test"
    )
    refers = pydicom.dcmread(tmp_path / "m.dcm").ReferencedSeriesSequence[0]
    assert len(refers.ReferencedInstanceSequence) == len(VOLUME)


def tilted(i: int, file: Any) -> None:
    file.ImagePositionPatient = at(-10, -20 + 0.2 * i, -30 + 2 * i)


def one_aside(i: int, file: Any) -> None:
    file.ImagePositionPatient = at(-10, -20 + 3 * (i == 4), -30 + 2 * i)


def uneven(i: int, file: Any) -> None:
    file.ImagePositionPatient = at(-10, -20, -30 + 2 * i + 0.1 * i * i)


def one_far(i: int, file: Any) -> None:
    file.ImagePositionPatient = at(-10, -20, -30 + 2 * i + 99 * (i == 8))


def three_in_each_place(i: int, file: Any) -> None:
    file.ImagePositionPatient = at(-10, -20, -30 + 2 * (i // 3))
    file.TemporalPositionIdentifier = i % 3


def one_turned(i: int, file: Any) -> None:
    if i == 3:
        file.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]


def without(keyword: str, number: int) -> Callable[[int, Any], None]:
    return lambda i, file: delattr(file, keyword) if i == number else None


def with_field(keyword: str, value: object, number: int = 5) -> Callable[[int, Any], None]:
    return lambda i, file: setattr(file, keyword, value) if i == number else None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (tilted, r"sheared.*tilt of 5\.7 degrees.*1\.6 mm"),
        (one_aside, r"004\.dcm lies .* sideways"),
        (uneven, r"uneven distances.*between 007\.dcm and 008\.dcm"),
        (one_far, r"gap between 007\.dcm and 008\.dcm \(101 mm\)"),
        (three_in_each_place, r"share a place \(and 5 more pairs\).*TemporalPositionIdentifier"),
        (one_turned, r"mixed orientations: 003\.dcm.*localizer"),
        (lambda i, _: i not in (3, 4), r"gap between 002\.dcm and 005\.dcm \(6 mm\).*2 mm apart"),
        (without("ImagePositionPatient", 2), r"002\.dcm has no ImagePositionPatient"),
        (without("ImageOrientationPatient", 0), r"000\.dcm has no ImageOrientationPatient"),
        (without("PixelSpacing", 8), r"008\.dcm has no PixelSpacing"),
        (with_field("PixelSpacing", [1, 1]), r"different pixels: 005\.dcm of \[1\.0, 1\.0\] mm"),
        (with_field("ImagePositionPatient", [1, 2]), r"005\.dcm: expected ImagePosition.*3 finite"),
        (with_field("ImagePositionPatient", ["1e300", "0", "0"]), r"005\.dcm: expected a position"),
        (with_field("PixelSpacing", ["0", "1"]), r"005\.dcm: expected a position and pixels"),
        (with_field("FrameOfReferenceUID", "1.2.3"), r"005\.dcm have different frames of ref"),
        (with_field("RescaleSlope", "nan"), r"005\.dcm: expected RescaleSlope .* finite"),
        (with_field("RescaleSlope", "1e39"), r"005\.dcm: expected finite intensities"),
        (with_field("RescaleIntercept", ["1", "2"]), r"005\.dcm: expected RescaleIntercept"),
        (with_field("PhotometricInterpretation", "MONOCHROME1"), r"005\.dcm: its numbers .* quan"),
        (with_field("SamplesPerPixel", 3), r"005\.dcm has colours"),
        (
            with_field("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
            r"005\.dcm: expected ImageOrientationPatient .* perpendicular",
        ),
    ],
)
def test_a_series_that_is_no_volume_is_refused_by_name(
    change: Callable[[int, Any], object], words: str, tmp_path: Path
):
    folder = axial_series(tmp_path / "s", VOLUME, change=change)
    with pytest.raises(UserError, match=words) as caught:
        read_folder(folder)
    assert str(folder) in str(caught.value)
    assert ".." not in str(caught.value)


def test_a_slice_that_is_there_twice_is_passed_over_or_named(tmp_path: Path):
    axial_series(tmp_path / "s", VOLUME)
    image = read_folder(tmp_path / "s")
    shutil.copy(tmp_path / "s/003.dcm", tmp_path / "s/copy of 003.dcm")
    np.testing.assert_array_equal(read_folder(tmp_path / "s").array, image.array)
    other = pydicom.dcmread(tmp_path / "s/003.dcm")
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    other.EchoTime = 7
    other.save_as(tmp_path / "s/copy of 003.dcm", enforce_file_format=True)
    with pytest.raises(UserError, match=r"003\.dcm and copy of 003\.dcm share a place.*EchoTime"):
        read_folder(tmp_path / "s")


def test_a_copy_in_name_only_is_named(tmp_path: Path):
    """The same UID, other pixels: which one is meant cannot be known."""
    axial_series(tmp_path / "s", VOLUME)
    other = pydicom.dcmread(tmp_path / "s/003.dcm")
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "s/blank.dcm", enforce_file_format=True)
    with pytest.raises(UserError, match=r"share a place"):
        read_folder(tmp_path / "s")


def test_a_series_without_frame_of_reference_is_read_and_segmented(tmp_path: Path):
    axial_series(
        tmp_path / "s", VOLUME, change=lambda i, file: delattr(file, "FrameOfReferenceUID")
    )
    image = read_folder(tmp_path / "s")
    assert_same_volume(image, by_gdcm(tmp_path / "s"))
    write_segmentation(
        tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "a"), "test"
    )
    assert pydicom.dcmread(tmp_path / "m.dcm").FrameOfReferenceUID


def test_localizers_between_the_slices_are_passed_over(tmp_path: Path):
    def local(i: int, file: Any) -> None:
        if i in (0, 8):
            file.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            file.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    image = read_folder(axial_series(tmp_path / "s", VOLUME, change=local))
    assert image.shape == (7, 12, 14)
    assert set(np.unique(image.array)) == set(np.unique(VOLUME[1:8]))


def pet(i: int, file: Any) -> None:
    file.Modality, file.RescaleSlope, file.RescaleIntercept = "PT", f"{0.5 + 0.1 * i:g}", "0"


def monochrome1(i: int, file: Any) -> None:
    file.Modality = "MR"
    file.PhotometricInterpretation, file.RescaleSlope, file.RescaleIntercept = "MONOCHROME1", 2, -7


def signed_monochrome1(i: int, file: Any) -> None:
    file.Modality, file.PhotometricInterpretation, file.PixelRepresentation = "MR", "MONOCHROME1", 1


def monochrome1_of_twelve_bits(i: int, file: Any) -> None:
    file.Modality, file.PhotometricInterpretation = "MR", "MONOCHROME1"
    file.BitsStored, file.HighBit = 12, 11


def padded(i: int, file: Any) -> None:
    pixels = np.frombuffer(file.PixelData, np.int16).reshape(12, 14).copy()
    pixels[:2] = -2000
    file.PixelPaddingValue, file.PixelRepresentation = -2000, 1
    file["PixelPaddingValue"].VR = "SS"
    file.PixelData = pixels.tobytes()


def signed_12(i: int, file: Any) -> None:
    """Twelve signed bits of sixteen."""
    pixels = np.frombuffer(file.PixelData, np.int16).astype(np.int16) - 100
    file.BitsStored, file.HighBit, file.PixelRepresentation = 12, 11, 1
    file.PixelData = pixels.tobytes()


def backwards(i: int, file: Any) -> None:
    file.ImageOrientationPatient = [0, -1, 0, 0, 0, -1]
    file.ImagePositionPatient = at(30 - 2 * i, 5, 9)


@pytest.mark.parametrize(
    "change",
    [
        pet,
        monochrome1,
        signed_monochrome1,
        monochrome1_of_twelve_bits,
        padded,
        signed_12,
        backwards,
    ],
)
def test_numbers_and_places_are_those_that_simpleitk_reads(
    change: Callable[[int, Any], None], tmp_path: Path
):
    folder = axial_series(tmp_path / "s", VOLUME, change=change)
    assert_same_volume(read_folder(folder), by_gdcm(folder))


def test_frames_of_one_file_have_their_own_slopes_and_places(tmp_path: Path):
    """Stored out of order; SimpleITK knows no slopes of frames, so these are by hand."""
    heights, slopes = [4.0, 0.0, 2.0, 6.0], [1.0, 2.0, 0.5, 3.0]
    image = read_image(enhanced_ct(tmp_path / "e.dcm", VOLUME[:4], heights, slopes))
    assert image.spacing == pytest.approx((2, 0.9, 0.8))
    for stored, height, slope in zip(VOLUME[:4], heights, slopes, strict=True):
        place = np.linalg.inv(image.affine) @ (10, 20, height, 1)
        np.testing.assert_allclose(place[1:], (0, 0, 1), atol=1e-6)
        np.testing.assert_allclose(image.array[0, round(place[0])], stored * slope - 5.0)


def test_frames_at_uneven_distances_are_named(tmp_path: Path):
    path = enhanced_ct(tmp_path / "e.dcm", VOLUME[:4], [0.0, 2.0, 4.0, 9.0], [1.0] * 4)
    with pytest.raises(UserError, match=r"gap between e\.dcm frame 3 and e\.dcm frame 4"):
        read_image(path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Modality", ["CT", "MR"]),
        ("SeriesDescription", ["a", "b"]),
        ("SeriesNumber", ["1", "2"]),
        ("ImageType", "x"),
        ("SliceThickness", ["2", "3"]),
        ("NumberOfFrames", "1"),
        ("PatientName", ["A", "B"]),
        ("PatientID", ["A", "B"]),
        ("StudyDate", ["20200101", "20200102"]),
        ("StudyID", ["A", "B"]),
        ("AccessionNumber", ["A", "B"]),
        ("ReferringPhysicianName", ["A", "B"]),
        ("Manufacturer", ["A", "B"]),
        ("InstanceNumber", ["1", "2"]),
    ],
)
def test_fields_with_several_values_do_no_harm(keyword: str, value: object, tmp_path: Path):
    folder = axial_series(
        tmp_path / "s", VOLUME, change=lambda i, file: setattr(file, keyword, value)
    )
    image = read_folder(folder)
    assert_same_volume(image, by_gdcm(folder))
    label = np.ones(image.shape, np.uint8)
    write_segmentation(tmp_path / "m.dcm", label, image, ("background", "a"), "test")
    write_structures(tmp_path / "r.dcm", label, image, ("background", "a"), "test")
    for name in ("m.dcm", "r.dcm"):
        (known,) = [form for form in ANNOTATIONS if form.recognises(tmp_path / name)]
        (segment,) = known.read(tmp_path / name, image)
        assert segment.inside.sum() == label.sum()
