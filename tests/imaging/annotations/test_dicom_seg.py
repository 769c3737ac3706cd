"""DICOM segmentations, against highdicom."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom

from cdal.imaging.annotations.dicom_seg import write_segmentation
from cdal.imaging.formats.dicom import read_series
from cdal.imaging.formats.dicom_series import find_series
from helpers.files import numbers, write_series


def test_a_segmentation_lies_on_its_series_and_names_its_classes(tmp_path: Path):
    write_series(tmp_path / "s", numbers((5, 6, 7), np.uint16))
    files = find_series(tmp_path / "s")[0].files
    image = read_series(files)
    label = np.zeros(image.shape, np.uint8)
    label[1:3, 2:5, 1:4], label[3, :2, 5:] = 1, 2
    write_segmentation(tmp_path / "m.dcm", label, image, ("background", "liver", "spleen"), "test")
    seg = hd.seg.segread(tmp_path / "m.dcm")
    assert [seg.get_segment_description(k).segment_label for k in (1, 2)] == ["liver", "spleen"]
    sources = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}
    assert {str(uid) for _, _, uid in seg.get_source_image_uids()} <= sources
    assert seg.FrameOfReferenceUID == pydicom.dcmread(files[0]).FrameOfReferenceUID
    volume = seg.get_volume(combine_segments=True)
    lps = np.diag([-1.0, -1, 1, 1])
    for k in (1, 2):
        there = (
            lps
            @ volume.affine
            @ np.c_[np.argwhere(volume.array == k), np.ones((volume.array == k).sum())].T
        )[:3].T
        ours = (image.affine @ np.c_[np.argwhere(label == k), np.ones((label == k).sum())].T)[:3].T
        np.testing.assert_allclose(
            np.array(sorted(there.round(2).tolist())),
            np.array(sorted(ours.round(2).tolist())),
            atol=0.02,
        )


def test_an_empty_segmentation_can_be_written(tmp_path: Path):
    write_series(tmp_path / "s", numbers((3, 6, 7), np.uint16))
    image = read_series(find_series(tmp_path / "s")[0].files)
    write_segmentation(
        tmp_path / "m.dcm", np.zeros(image.shape, np.uint8), image, ("background", "liver"), "test"
    )
    assert hd.seg.segread(tmp_path / "m.dcm").pixel_array.max() == 0


def test_series_without_what_may_be_empty_get_a_mask(tmp_path: Path):
    """As anonymisers leave them."""
    folder = write_series(tmp_path / "s", numbers((3, 6, 7), np.uint16))
    for path in folder.iterdir():
        file = pydicom.dcmread(path)
        for tag in ("PatientBirthDate", "StudyID", "StudyDate", "SliceThickness", "PatientName"):
            delattr(file, tag)
        file.save_as(path, enforce_file_format=True)
    image = read_series(find_series(folder)[0].files)
    write_segmentation(
        tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "liver"), "test"
    )
    assert hd.seg.segread(tmp_path / "m.dcm").pixel_array.min() == 1
