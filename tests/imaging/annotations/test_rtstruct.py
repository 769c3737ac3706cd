"""RTSTRUCT: shapes by hand, and the pitfalls of other readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from cdal.imaging.annotations import annotation_format, draw
from cdal.imaging.annotations.dicom_seg import write_segmentation
from cdal.imaging.annotations.rtstruct import write_structures
from cdal.imaging.formats.dicom import read_series
from cdal.imaging.formats.dicom_files import lenient
from cdal.imaging.formats.dicom_series import find_series
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from helpers.dicom import enhanced_ct
from helpers.files import numbers, write_series
from helpers.studies import contour, places, write_mr, write_structures_by_hand

SHAPE = (14, 11, 8)
"""Columns, rows, slices."""

SQUARE = np.array([(2.5, 3.5), (2.5, 9.5), (7.5, 9.5), (7.5, 3.5)])
"""Rows 3 to 7 and columns 4 to 9 of a slice."""

AXIAL = np.array([[0.8, 0, 0, 3], [0, 0.9, 0, 5], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
SAGITTAL = np.array([[0, 0, 2.5, 3], [0.8, 0, 0, 5], [0, -0.9, 0, 7], [0, 0, 0, 1.0]])
TURN = np.deg2rad(20)
OBLIQUE = (
    np.array(
        [
            [np.cos(TURN), -np.sin(TURN), 0, 0],
            [np.sin(TURN), np.cos(TURN), 0, 0],
            [0, 0, 1, 0],
            [0, 0, 0, 1],
        ]
    )
    @ SAGITTAL
)


def scan(folder: Path, affine: np.ndarray = AXIAL) -> tuple[Image, list[Any]]:
    sources = write_mr(folder, np.random.default_rng(0).integers(0, 900, size=SHAPE), affine)
    return read_series(find_series(folder)[0].files), sources


def read(path: Path, image: Image, *names: str) -> np.ndarray:
    known = annotation_format(path)
    assert known is not None
    assert known.name == "RTSTRUCT"
    return draw(known.read(path, image), image.shape, ("background", *(names or ("liver",))))[0]


def plane_of(image: Image, source: Any) -> int:
    """Which slice of the image a file is."""
    place = np.linalg.inv(image.affine) @ (*places(source, np.zeros((1, 2)))[0] * (-1, -1, 1), 1)
    return round(place[0])


def one_slice(tmp_path: Path, *contours: Any, affine: np.ndarray = AXIAL) -> np.ndarray:
    """The rows and columns that contours on the third file draw."""
    image, sources = scan(tmp_path / "s", affine)
    drawn = read(
        write_structures_by_hand(
            tmp_path / "r.dcm",
            sources[2],
            [
                (
                    "liver",
                    [
                        contour(places(sources[2], np.array(ring)))
                        if not isinstance(ring, pydicom.Dataset)
                        else ring
                        for ring in contours
                    ],
                )
            ],
        ),
        image,
    )
    k = plane_of(image, sources[2])
    assert not np.delete(drawn, k, axis=0).any()
    return drawn[k]


@pytest.mark.parametrize("affine", [AXIAL, SAGITTAL, OBLIQUE], ids=["axial", "sagittal", "oblique"])
def test_a_square_lies_where_it_was_drawn(affine: np.ndarray, tmp_path: Path):
    """With pixels of 0.8 x 0.9 mm, which other readers confuse."""
    expected = np.zeros((11, 14), np.uint8)
    expected[3:8, 4:10] = 1
    np.testing.assert_array_equal(one_slice(tmp_path, SQUARE, affine=affine), expected)


def test_contours_in_contours_are_holes_and_islands(tmp_path: Path):
    hole = np.array([(3.5, 4.5), (3.5, 8.5), (6.5, 8.5), (6.5, 4.5)])
    island = np.array([(4.5, 5.5), (4.5, 6.5), (5.5, 6.5), (5.5, 5.5)])
    aside = np.array([(8.5, 0.5), (8.5, 2.5), (9.5, 2.5), (9.5, 0.5)])
    expected = np.zeros((11, 14), np.uint8)
    expected[3:8, 4:10] = 1
    expected[4:7, 5:9] = 0
    expected[5, 6] = 1
    expected[9, 1:3] = 1
    np.testing.assert_array_equal(one_slice(tmp_path, SQUARE, hole, island, aside), expected)


def test_a_keyhole_is_a_hole(tmp_path: Path):
    """One ring that goes to the hole and back by the same way."""
    way_in = [(2.5, 3.5), (2.5, 6.2), (4.5, 6.2), (4.5, 5.5), (6.5, 5.5), (6.5, 7.5), (4.5, 7.5)]
    way_out = [(4.5, 6.2), (2.5, 6.2), (2.5, 9.5), (7.5, 9.5), (7.5, 3.5)]
    keyhole = np.array([*way_in, *way_out])
    expected = np.zeros((11, 14), np.uint8)
    expected[3:8, 4:10] = 1
    expected[5:7, 6:8] = 0
    np.testing.assert_array_equal(one_slice(tmp_path, keyhole), expected)


def test_a_contour_that_is_there_twice_stays(tmp_path: Path):
    assert one_slice(tmp_path, SQUARE, SQUARE).sum() == 30


def test_contours_beside_the_image_are_cut_off(tmp_path: Path):
    large = np.array([(-5.2, -7), (-5.2, 99), (4.5, 99), (4.5, -7)])
    drawn = one_slice(tmp_path, large)
    assert drawn[:5].all()
    assert not drawn[5:].any()


def test_points_lines_and_specks_draw_nothing(tmp_path: Path):
    speck = np.array([(8.1, 1.1), (8.1, 1.4), (8.4, 1.4), (8.4, 1.1)])
    line = np.array([(1.0, 1.0), (1.0, 5.0)])
    assert one_slice(tmp_path, SQUARE, speck, line, line[:1]).sum() == 30


def test_structures_without_contours_are_classes_and_points_are_none(tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    square, point = places(sources[2], SQUARE), places(sources[2], SQUARE[:1])
    path = write_structures_by_hand(
        tmp_path / "r.dcm",
        sources[0],
        [
            ("not drawn", None),
            ("empty", []),
            ("isocentre", [contour(point, "POINT")]),
            ("liver", [contour(square), contour(point, "POINT")]),
        ],
    )
    known = annotation_format(path)
    assert known is not None
    assert known.class_names(path) == ("not drawn", "empty", "liver")
    assert [segment.name for segment in known.read(path, image)] == ["liver"]


@pytest.mark.parametrize(("off", "slices"), [(0.0, [2]), (0.9, [2]), (-1.2, [2]), (1.3, [3])])
def test_a_contour_belongs_to_the_nearest_slice(off: float, slices: list[int], tmp_path: Path):
    """Slices are 2.5 mm apart, so that half of the distance is 1.25 mm."""
    image, sources = scan(tmp_path / "s")
    square = places(sources[2], SQUARE) + np.array((0, 0, off))
    path = write_structures_by_hand(tmp_path / "r.dcm", sources[0], [("liver", [contour(square)])])
    drawn = read(path, image)
    expected = [plane_of(image, sources[k]) for k in slices]
    assert np.flatnonzero(drawn.any(axis=(1, 2))).tolist() == expected


def test_of_planes_finer_than_the_slices_the_nearest_counts(tmp_path: Path):
    """Contours every 1.25 mm must not cut holes into each other."""
    image, sources = scan(tmp_path / "s")
    square = places(sources[2], SQUARE)
    path = write_structures_by_hand(
        tmp_path / "r.dcm",
        sources[0],
        [("liver", [contour(square + np.array((0, 0, off))) for off in (-0.8, 0.0, 0.8)])],
    )
    assert read(path, image).sum() == 30


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ((0, 0, 40), r"liver: a contour lies \d+\.\d slices beside the image"),
        ((0, 0, -9), r"slices beside the image"),
    ],
)
def test_a_contour_in_no_slice_is_an_error(
    move: tuple[float, float, float], words: str, tmp_path: Path
):
    image, sources = scan(tmp_path / "s")
    square = places(sources[2], SQUARE) + np.array(move)
    path = write_structures_by_hand(tmp_path / "r.dcm", sources[0], [("liver", [contour(square)])])
    with pytest.raises(UserError, match=words):
        read(path, image)


def test_a_contour_across_the_slices_is_an_error(tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    square = places(sources[2], SQUARE)
    square[:, 2] += (0, 0, 5, 5)
    square[:, :2] += ((0, 0), (1, 0), (0, 1), (2, 2))
    path = write_structures_by_hand(tmp_path / "r.dcm", sources[0], [("liver", [contour(square)])])
    with pytest.raises(UserError, match="expected contours in the planes"):
        read(path, image)


@pytest.mark.parametrize("numbers_", [["1", "2"], ["1", "2", "nan"]])
def test_numbers_that_are_no_points_are_an_error(numbers_: list[str], tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    broken = contour(places(sources[2], SQUARE))
    with lenient():
        broken.ContourData = numbers_
        path = write_structures_by_hand(tmp_path / "r.dcm", sources[0], [("liver", [broken])])
    with pytest.raises(UserError, match="liver: expected contours of points"):
        read(path, image)


def test_structures_of_another_series_are_refused(tmp_path: Path):
    image, _ = scan(tmp_path / "s")
    _, others = scan(tmp_path / "other")
    path = write_structures_by_hand(
        tmp_path / "r.dcm", others[0], [("liver", [contour(places(others[2], SQUARE))])]
    )
    with pytest.raises(UserError, match="neither to the image's series nor to its space"):
        read(path, image)
    with pytest.raises(UserError, match="need a volume"):
        read(path, Image(np.zeros((1, 9, 9), np.float32)))


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Two classes of any shape, with holes and parts that touch at corners."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (0.7, 1.2, 1.2))
    label = np.where(smooth > 0.1, 1, np.where(smooth < -0.15, 2, 0)).astype(np.uint8)
    label[0] = 0
    return label


@pytest.mark.parametrize("seed", range(3))
def test_masks_come_back_from_contours_and_segments_alike(seed: int, tmp_path: Path):
    """On an oblique series whose files are in no order."""
    write_series(tmp_path / "s", numbers((7, 24, 20), np.uint16))
    image = read_series(find_series(tmp_path / "s")[0].files)
    label = blobs(image.shape, seed)
    names = ("background", "liver", "spleen")
    write_structures(tmp_path / "r.dcm", label, image, names, "test")
    write_segmentation(tmp_path / "m.dcm", label, image, names, "test")
    for path in (tmp_path / "r.dcm", tmp_path / "m.dcm"):
        known = annotation_format(path)
        assert known is not None
        drawn, _ = draw(known.read(path, image), image.shape, names)
        np.testing.assert_array_equal(drawn, label)


def test_what_is_written_is_whole_and_refers_to_each_slice(tmp_path: Path):
    """Every field that the standard requires of its modules is there."""
    image, _ = scan(tmp_path / "s")
    label = np.zeros(image.shape, np.uint8)
    label[2:5, 3:6, 4:9] = 1
    write_structures(tmp_path / "r.dcm", label, image, ("background", "liver", "none"), "test")
    file = pydicom.dcmread(tmp_path / "r.dcm")
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
        *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
        *("Modality", "SeriesInstanceUID", "OperatorsName", "Manufacturer", "SOPClassUID"),
        *("SOPInstanceUID", "StructureSetLabel", "StructureSetDate", "StructureSetTime"),
        *("RTROIObservationsSequence", "SeriesNumber"),
    ):
        assert keyword in file, keyword
    assert [one.ROIName for one in file.StructureSetROISequence] == ["liver", "none"]
    drawn, empty = file.ROIContourSequence
    assert "ContourSequence" not in empty
    by_uid = {
        header.SOPInstanceUID: header
        for header in (pydicom.dcmread(path) for path in (tmp_path / "s").iterdir())
    }
    assert len(drawn.ContourSequence) == 3
    for one in drawn.ContourSequence:
        source = by_uid[one.ContourImageSequence[0].ReferencedSOPInstanceUID]
        points = np.reshape(one.ContourData, (-1, 3)).astype(float)
        assert len(points) == one.NumberOfContourPoints
        assert np.abs(points[:, 2] - source.ImagePositionPatient[2]).max() < 1e-3


def test_contours_of_frames_name_their_frame(tmp_path: Path):
    path = enhanced_ct(
        tmp_path / "e.dcm", numbers((4, 12, 14), np.uint16), [4.0, 0.0, 2.0, 6.0], [1.0] * 4
    )
    image = read_series([path])
    label = np.zeros(image.shape, np.uint8)
    label[1, 3:6, 4:9] = 1
    write_structures(tmp_path / "r.dcm", label, image, ("background", "liver"), "test")
    (one,) = pydicom.dcmread(tmp_path / "r.dcm").ROIContourSequence[0].ContourSequence
    frame = one.ContourImageSequence[0].ReferencedFrameNumber
    height = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[frame - 1]
    assert float(one.ContourData[2]) == height.PlanePositionSequence[0].ImagePositionPatient[2]
