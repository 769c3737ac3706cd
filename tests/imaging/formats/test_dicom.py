"""DICOM: series and radiographs."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import ComputedRadiographyImageStorage

from cdal.imaging.annotations.dicom_seg import write_segmentation
from cdal.imaging.formats import read_image
from cdal.imaging.formats.dicom import read_series
from cdal.imaging.formats.dicom_series import Series, choose_series, find_series
from cdal.inference.inputs import list_inputs
from cdal.runtime.errors import UserError
from helpers.dicom import axial_series
from helpers.files import numbers, write_series


def test_a_series_is_read_in_its_own_place_and_unit(tmp_path: Path):
    """SimpleITK's reader, which sorts by position and rescales too, sees the same."""
    write_series(tmp_path / "s", numbers((5, 6, 7), np.uint16))
    (series,) = find_series(tmp_path / "s")
    image = read_series(series.files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    theirs = reader.Execute()
    there = np.asarray(
        [
            theirs.TransformIndexToPhysicalPoint((c, r, s))
            for s in (0, 4)
            for r in (0, 5)
            for c in (0, 6)
        ]
    )
    values = [theirs[c, r, s] for s in (0, 4) for r in (0, 5) for c in (0, 6)]
    for point, value in zip(there * (-1, -1, 1), values, strict=True):
        index = np.round(np.linalg.solve(image.affine[:3, :3], point - image.affine[:3, 3])).astype(
            int
        )
        assert image.array[(0, *index)] == value
        np.testing.assert_allclose(
            image.affine[:3, :3] @ index + image.affine[:3, 3], point, atol=1e-3
        )


def test_series_are_listed_in_the_order_of_their_numbers(tmp_path: Path):
    found = [
        Series("1.1", "T1 mprage", "30", (tmp_path / "a",)),
        Series("1.2", "LOC", "1", (tmp_path / "b",), localizer=True),
        Series("1.3", "", "", (tmp_path / "c",)),
        Series("1.4", "T2", "4", (tmp_path / "d",)),
    ]
    with pytest.raises(UserError, match=r"3 series are there, and 1 localizer\. Choose") as error:
        choose_series(tmp_path, found, None)
    _, *listed = str(error.value).splitlines()
    assert [line.split(" (")[0] for line in listed] == [
        "  1: LOC",
        "  4: T2",
        "  30: T1 mprage",
        "  -: no description",
    ]
    assert listed[0].endswith(", a localizer")
    with pytest.raises(UserError, match="2 series are called 'x'"):
        choose_series(tmp_path, [Series(u, "x", "", ()) for u in "ab"], "x")


def test_one_series_of_several_has_to_be_chosen(tmp_path: Path):
    write_series(tmp_path / "s", numbers((3, 6, 7), np.uint16), description="T1", number=3)
    write_series(
        tmp_path / "s", numbers((4, 6, 7), np.uint16), description="T2", number=4, first=10
    )
    found = find_series(tmp_path / "s")
    with pytest.raises(
        UserError, match=r"2 series are there\..*--series.*\n  3: T1 \(3 files.*\n  4: T2 \(4 files"
    ):
        choose_series(tmp_path / "s", found, None)
    with pytest.raises(UserError, match="no series is called 'T3'"):
        choose_series(tmp_path / "s", found, "T3")
    assert {
        len(choose_series(tmp_path / "s", found, name).files) for name in ("t2", "4", found[1].uid)
    } == {4}
    (one,), failed = list_inputs([tmp_path / "s"], series="T1")
    assert (one.name, one.suffix, len(one.files), failed) == ("s", ".dcm", 3, {})


@pytest.mark.parametrize(
    "fault", ["missing slice", "twice", "pixels cut off", "header cut off", "another shape"]
)
def test_a_series_that_makes_no_volume_is_refused(fault: str, tmp_path: Path):
    folder = write_series(tmp_path / "s", numbers((6, 16, 17), np.uint16), order=range(6))
    files = sorted(folder.iterdir())
    if fault == "missing slice":
        files[2].unlink()
    elif fault == "twice":
        copy = pydicom.dcmread(files[2])
        copy.SOPInstanceUID = pydicom.uid.generate_uid()
        copy.save_as(folder / "again", enforce_file_format=True)
    elif fault in ("pixels cut off", "header cut off"):
        files[2].write_bytes(files[2].read_bytes()[: -200 if fault == "pixels cut off" else 400])
    else:
        other = pydicom.dcmread(files[2])
        other.Rows, other.PixelData = 15, other.PixelData[: 15 * 17 * 2]
        other.save_as(files[2], enforce_file_format=True)
    with pytest.raises(UserError, match=r"cannot be read as|expected a DICOM image") as caught:
        read_series(find_series(folder)[0].files)
    assert str(folder) in str(caught.value)
    if fault.endswith("off"):
        assert files[2].name in str(caught.value)


def test_a_radiograph_is_bright_where_it_is_meant_to_be(tmp_path: Path):
    folder = write_series(tmp_path / "s", numbers((1, 6, 7), np.uint16))
    file = pydicom.dcmread(next(folder.iterdir()))
    for tag in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleSlope",
        "RescaleIntercept",
        "FrameOfReferenceUID",
    ):
        delattr(file, tag)
    file.PhotometricInterpretation, file.Modality = "MONOCHROME1", "CR"
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    file.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    (one,), _ = list_inputs([tmp_path / "x.dcm"])
    image = read_image(one.path)
    stored = numbers((1, 6, 7), np.uint16)[0].astype(float)
    np.testing.assert_array_equal(image.array[0], stored.max() + stored.min() - stored)
    mask = (image.array[0] > 100).astype(np.uint8)
    write_segmentation(tmp_path / "m.dcm", mask, image, ("background", "lung"), "test")
    np.testing.assert_array_equal(np.squeeze(hd.seg.segread(tmp_path / "m.dcm").pixel_array), mask)


def test_an_enhanced_file_of_many_frames_is_its_series(tmp_path: Path):
    folder = write_series(tmp_path / "s", numbers((4, 16, 18), np.uint16))
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for i, file in enumerate(slices):
        file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        file.AcquisitionNumber, file.InstanceNumber = 1, i + 1
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(slices, hd.UID(), 9, hd.UID(), 1)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    (one,), failed = list_inputs([tmp_path / "enhanced.dcm"])
    assert not failed
    image, series = read_image(one.path), read_series(find_series(folder)[0].files)
    there = {
        tuple(np.round(image.affine[:3] @ (k, r, c, 1), 1)): image.array[0, k, r, c]
        for k in range(4)
        for r in (0, 9)
        for c in (0, 7)
    }
    here = {
        tuple(np.round(series.affine[:3] @ (k, r, c, 1), 1)): series.array[0, k, r, c]
        for k in range(4)
        for r in (0, 9)
        for c in (0, 7)
    }
    assert there == here
    write_segmentation(
        tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "liver"), "test"
    )
    assert (
        hd.seg.segread(tmp_path / "m.dcm").get_volume(combine_segments=True).array.shape
        == image.shape
    )


def test_frames_without_a_place_and_palettes(tmp_path: Path):
    """Frames of a cine are no picture; a palette becomes its colours."""

    def flat(_: int, file: pydicom.Dataset) -> None:
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(file, tag)
        file.BitsAllocated = file.BitsStored = 8
        file.HighBit, file.Modality = 7, "US"

    def cine(i: int, file: pydicom.Dataset) -> None:
        flat(i, file)
        file.NumberOfFrames, file.PixelData = 2, bytes(2 * 6 * 7)

    def palette(i: int, file: pydicom.Dataset) -> None:
        flat(i, file)
        file.PhotometricInterpretation = "PALETTE COLOR"
        file.PixelData = (np.arange(42) % 2).astype(np.uint8).tobytes()
        for colour, level in (("Red", 9), ("Green", 99), ("Blue", 0)):
            setattr(file, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, 8])
            setattr(file, f"{colour}PaletteColorLookupTableData", bytes([0, level]))

    volume = numbers((1, 6, 7), np.uint16)
    with pytest.raises(UserError, match="holds 2 frames without a place in space"):
        read_image(axial_series(tmp_path / "cine", volume, change=cine) / "000.dcm")
    image = read_image(axial_series(tmp_path / "colours", volume, change=palette) / "000.dcm")
    assert image.array[:, 0, :2].T.tolist() == [[0, 0, 0], [9, 99, 0]]
