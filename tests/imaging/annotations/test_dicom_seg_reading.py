"""DICOM-SEG written by highdicom: every kind, any order of slices, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from cdal.imaging.annotations import annotation_format, draw
from cdal.imaging.formats.dicom import read_series
from cdal.imaging.formats.dicom_series import find_series
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from helpers.studies import write_mr, write_seg

SHAPE = (11, 9, 12)
AFFINE = np.array([[0.8, 0, 0, 3], [0, 0, -2.0, 5], [0, 0.9, 0, 7], [0, 0, 0, 1.0]])
NAMES = ("liver", "spleen")


def label() -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:6, 3:7, 4:7], drawn[8:, :2, 5:11] = 1, 2
    drawn[3, 4, 5] = 0
    return drawn


def scan(folder: Path, **options: Any) -> tuple[Image, list[Any]]:
    values = np.random.default_rng(0).integers(0, 900, size=SHAPE)
    sources = write_mr(folder, values, AFFINE, **options)
    return read_series(find_series(folder)[0].files), sources


def drawn_on(path: Path, image: Image, classes: tuple[str, ...] = NAMES) -> np.ndarray:
    known = annotation_format(path)
    assert known is not None
    assert known.name == "DICOM-SEG"
    return draw(known.read(path, image), image.shape, ("background", *classes))[0]


def in_patient_order(image: Image, array: np.ndarray) -> np.ndarray:
    """`[i, j, k]` of the helper, on the image's own axes."""
    to_voxels = np.linalg.inv(image.affine) @ AFFINE
    index = np.argwhere(np.ones(SHAPE, bool))
    there = np.round(np.c_[index, np.ones(len(index))] @ to_voxels.T)[:, :3].astype(int)
    turned = np.empty(image.shape, array.dtype)
    turned[tuple(there.T)] = array[tuple(index.T)]
    return turned


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_every_kind_is_read_to_the_voxel(kind: str, tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    path = write_seg(tmp_path / "seg.dcm", sources, label(), NAMES, kind)
    expected = in_patient_order(image, label())
    np.testing.assert_array_equal(drawn_on(path, image), expected)
    known = annotation_format(path)
    assert known is not None
    assert known.class_names(path) == NAMES
    assert ("one half" in "".join(known.notes(path))) == (kind == "FRACTIONAL")


def test_frames_without_foreground_are_restored(tmp_path: Path):
    """highdicom's own volume of the file is shorter; on the source's geometry it is the same."""
    image, sources = scan(tmp_path / "s")
    path = write_seg(tmp_path / "seg.dcm", sources, label(), NAMES)
    theirs = hd.seg.segread(path).get_volume(combine_segments=True)
    assert len(theirs.array) == 7 < image.shape[0]
    source = hd.get_volume_from_series([pydicom.dcmread(p) for p in (tmp_path / "s").iterdir()])
    np.testing.assert_array_equal(
        drawn_on(path, image), theirs.match_geometry(source).array.astype(np.uint8)
    )


def test_the_frames_may_come_in_another_order(tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    turned = write_seg(tmp_path / "seg.dcm", sources[::-1], label()[:, :, ::-1], NAMES)
    np.testing.assert_array_equal(drawn_on(turned, image), in_patient_order(image, label()))


@pytest.mark.parametrize("fraction", [0.4, 0.5, 0.6])
def test_fractions_are_cut_at_one_half(fraction: float, tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    shares = np.where(label() == 1, fraction, 0.0)
    path = write_seg(
        tmp_path / "seg.dcm",
        sources,
        shares,
        NAMES[:1],
        "FRACTIONAL",
        fractional_type="PROBABILITY",
        max_fractional_value=100,
    )
    inside = in_patient_order(image, label() == 1) & (fraction >= 0.5)
    np.testing.assert_array_equal(drawn_on(path, image), inside)


def test_overlapping_segments_are_all_there(tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    both = np.zeros((*SHAPE, 2), np.uint8)
    both[2:6, 3:7, 4:7, 0] = both[4:8, 3:7, 4:7, 1] = 1
    path = write_seg(tmp_path / "seg.dcm", sources, both, NAMES)
    known = annotation_format(path)
    assert known is not None
    segments = known.read(path, image)
    drawn, covered = draw(segments, image.shape, ("background", *NAMES))
    assert (covered, (drawn == 1).sum(), (drawn == 2).sum()) == (24, 24, 48)


def test_a_volume_of_another_format_needs_only_its_place(tmp_path: Path):
    """As NIfTI has it: other axes, no UID."""
    _, sources = scan(tmp_path / "s")
    path = write_seg(tmp_path / "seg.dcm", sources, label(), NAMES)
    nifti = Image(np.zeros((1, *SHAPE), np.float32), AFFINE)
    np.testing.assert_array_equal(drawn_on(path, nifti), label())


def test_a_segmentation_of_another_place_is_refused(tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    path = write_seg(tmp_path / "seg.dcm", sources, label(), NAMES)
    moved = image.affine.copy()
    moved[:3, 3] += (0.5, 0, 0)
    with pytest.raises(UserError, match="frames that lie on the voxels"):
        drawn_on(path, Image(image.array, moved))
    with pytest.raises(UserError, match="outside of its image"):
        drawn_on(path, Image(image.array[:, :6], image.affine))
    other, _ = scan(tmp_path / "other")
    with pytest.raises(UserError, match=r"neither to the image's series nor to its space"):
        drawn_on(path, other)
    picture = Image(np.zeros((1, 9, 7), np.float32))
    with pytest.raises(UserError, match="expected the shape of its image"):
        drawn_on(path, picture)


@pytest.mark.parametrize("cut", [0.97, 0.5])
def test_a_damaged_file_is_named(cut: float, tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    path = write_seg(tmp_path / "seg.dcm", sources, label(), NAMES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(UserError, match=r"seg\.dcm"):
        drawn_on(path, image)


def test_names_that_are_missing_come_from_the_codes(tmp_path: Path):
    image, sources = scan(tmp_path / "s")
    path = write_seg(tmp_path / "seg.dcm", sources, label(), NAMES)
    file = pydicom.dcmread(path)
    del file.SegmentSequence[0].SegmentLabel
    file.SegmentSequence[1].SegmentLabel = ""
    del file.SegmentSequence[1].SegmentedPropertyTypeCodeSequence
    file.save_as(path)
    known = annotation_format(path)
    assert known is not None
    assert known.class_names(path) == ("Anatomical Structure", "segment 2")
    del file.SegmentSequence
    file.save_as(path)
    with pytest.raises(UserError, match=r"seg\.dcm: expected segments; it describes none"):
        drawn_on(path, image)
