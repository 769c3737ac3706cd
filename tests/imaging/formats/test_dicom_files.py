"""Single DICOM files: bombs, damage, and what is said of them."""

from __future__ import annotations

import logging
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from cdal.imaging.annotations.dicom_seg import write_segmentation
from cdal.imaging.formats import format_of, read_image, stem_of
from cdal.imaging.formats.dicom_files import lenient, read_file
from cdal.imaging.formats.dicom_series import find_series
from cdal.runtime.errors import UserError
from helpers.dicom import assert_same_volume, axial_series, by_gdcm, deflated, read_folder
from helpers.files import numbers

VOLUME = numbers((4, 12, 14), np.uint16)
NAME, BORN, NUMBER = "Zzyzx^Quentin", "19030201", "PID-987123"


def test_a_slice_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.dcm").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"a\.dcm may not be read"):
        read_file(tmp_path / "a.dcm")


def test_a_deflated_series_is_read(tmp_path: Path):
    plain = axial_series(tmp_path / "p", VOLUME)
    folder = axial_series(tmp_path / "d", VOLUME, change=deflated)
    assert_same_volume(read_folder(folder), by_gdcm(plain))


def bomb(path: Path, size: int, tag: tuple[int, int]) -> Path:
    """A deflated slice with so many zero bytes in a further element, before or after the pixels."""
    raw = path.read_bytes()
    start = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    body = zlib.decompressobj(-15).decompress(raw[start:])
    element = struct.pack("<HH2sHI", *tag, b"OB", 0, size)
    at = body.index(struct.pack("<HH", 0x7FE0, 0x0010)) if tag < (0x7FE0, 0x0010) else len(body)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(body[:at] + element)
    packed += b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20))
    path.write_bytes(raw[:start] + packed + packer.compress(body[at:]) + packer.flush())
    return path


@pytest.mark.parametrize("tag", [(0x0011, 0x1010), (0x7FE1, 0x1010)])
def test_a_deflated_bomb_is_not_inflated(tag: tuple[int, int], tmp_path: Path):
    path = bomb(axial_series(tmp_path / "d", VOLUME[:1], change=deflated) / "000.dcm", 2**28, tag)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"000\.dcm"):
            read_image(path)
        with pytest.raises(UserError, match=r"000\.dcm"):
            read_folder(path.parent)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path):
    def vast(i: int, file: Any) -> None:
        file.Rows = file.Columns = 65535

    with pytest.raises(UserError, match="promises"):
        read_folder(axial_series(tmp_path / "s", VOLUME, change=vast))


def test_numbers_at_the_end_of_a_name_are_no_suffix(tmp_path: Path):
    axial_series(tmp_path / "s", VOLUME[:1])
    for name, stem in (
        ("1.2.840.10", "1.2.840.10"),
        ("1.2.840.11", "1.2.840.11"),
        ("a.b.DCM", "a.b"),
        ("scan.IMA", "scan"),
        ("x.dicom", "x"),
        ("1.2.3.dcm", "1.2.3"),
    ):
        path = tmp_path / name
        path.write_bytes((tmp_path / "s/000.dcm").read_bytes())
        assert stem_of(path) == stem
        known = format_of(path)
        assert known is not None
        assert known.name == "DICOM"


def test_a_damaged_slice_called_by_its_uid_is_not_passed_over(tmp_path: Path):
    folder = axial_series(tmp_path / "s", VOLUME)
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"1.2.3.{i}")
    (folder / "1.2.3.2").write_bytes(bytes(300))
    with pytest.raises(UserError, match=r"1\.2\.3\.2 cannot be read"):
        find_series(folder)


def named(i: int, file: Any) -> None:
    file.PatientName, file.PatientBirthDate, file.PatientID = NAME, BORN, NUMBER


def test_odd_fields_of_a_patient_are_kept_and_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    """A date that is none, and a name of one part, of which the libraries would warn."""

    def odd(i: int, file: Any) -> None:
        named(i, file)
        with lenient():
            file.PatientBirthDate, file.PatientName = "1903.13.45", "Zzyzx"

    image = read_folder(axial_series(tmp_path / "s", VOLUME, change=odd))
    with caplog.at_level(logging.DEBUG):
        write_segmentation(
            tmp_path / "m.dcm", np.zeros(image.shape, np.uint8), image, ("background", "a"), "t"
        )
    written = capsys.readouterr()
    assert written.out + written.err + caplog.text == ""
    assert "Zzyzx" in str(pydicom.dcmread(tmp_path / "m.dcm").PatientName)


def test_an_error_of_a_library_does_not_name_the_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    image = read_folder(axial_series(tmp_path / "s", VOLUME, change=named))

    def fail(**_: object) -> None:
        raise ValueError(f"cannot use {NAME}, born {BORN}, called Quentin, {NUMBER}")

    monkeypatch.setattr("highdicom.seg.Segmentation", fail)
    with pytest.raises(UserError, match="no DICOM segmentation can be made") as caught:
        write_segmentation(
            tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "a"), "t"
        )
    for part in ("Zzyzx", "Quentin", BORN, NUMBER):
        assert part not in str(caught.value)
