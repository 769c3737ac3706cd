"""Compressed series: the same numbers as SimpleITK's decoders give, and as before compression."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from cdal.imaging.formats.dicom_codecs import frame_shape
from cdal.runtime.errors import UserError
from helpers.dicom import assert_same_volume, axial_series, by_gdcm, read_folder

SHAPE = (12, 14)
VOLUME = np.random.default_rng(0).integers(0, 4096, size=(4, *SHAPE)).astype(np.uint16)


def rle(array: np.ndarray) -> bytes:
    """Literal bytes in two segments, the high ones first, by the standard (PS 3.5, annex G)."""
    high, low = (
        b"".join(bytes([len(row) - 1]) + row.astype(np.uint8).tobytes() for row in part)
        for part in (array >> 8, array & 255)
    )
    high += bytes(len(high) % 2)
    return struct.pack("<16L", 2, 64, 64 + len(high), *[0] * 13) + high + low + bytes(len(low) % 2)


ENCODERS = {
    "JPEG lossless": (
        uid.JPEGLosslessSV1,
        lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16),
    ),
    "JPEG lossless, 12 bits, predictor 6": (
        uid.JPEGLossless,
        lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=6, bitspersample=12),
    ),
    "JPEG-LS": (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        uid.JPEG2000Lossless,
        lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", level=0),
    ),
    "RLE": (uid.RLELossless, rle),
}


def compress(i: int, file: Any, syntax: str, frame: bytes) -> None:
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = encapsulate([frame])
    file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True


@pytest.mark.parametrize("name", ENCODERS)
def test_lossless_compression_changes_nothing(name: str, tmp_path: Path):
    syntax, encode = ENCODERS[name]
    plain = axial_series(tmp_path / "plain", VOLUME)
    folder = axial_series(
        tmp_path / "s",
        VOLUME,
        change=lambda i, file: compress(i, file, syntax, encode(VOLUME[i])),
    )
    image = read_folder(folder)
    assert_same_volume(image, by_gdcm(plain))
    assert_same_volume(image, by_gdcm(folder))


def test_signed_numbers_of_twelve_bits_keep_their_sign(tmp_path: Path):
    """Encoders may leave out the bits beyond the twelfth."""
    signed = VOLUME.astype(np.int16) - 2048

    def change(i: int, file: Any) -> None:
        file.BitsStored, file.HighBit = 12, 11
        bits = (signed[i].view(np.uint16)) & 0x0FFF
        frame = imagecodecs.jpeg8_encode(bits, lossless=True, predictor=1, bitspersample=12)
        compress(i, file, uid.JPEGLosslessSV1, frame)

    image = read_folder(axial_series(tmp_path / "s", signed, change=change))
    assert_same_volume(image, by_gdcm(axial_series(tmp_path / "plain", signed)))


def test_lossy_jpeg_is_read_as_simpleitk_reads_it(tmp_path: Path):
    smooth = np.add.outer(np.arange(12), np.arange(14)).astype(np.uint8)

    def change(i: int, file: Any) -> None:
        file.BitsAllocated = file.BitsStored = 8
        file.HighBit = 7
        compress(i, file, uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(smooth + i, level=95))

    folder = axial_series(tmp_path / "s", VOLUME, change=change)
    theirs = by_gdcm(folder)
    image = read_folder(folder)
    assert np.abs(np.sort(image.array.ravel()) - np.sort(np.ravel(theirs))).max() <= 1
    assert np.abs(image.array[0].mean(axis=(1, 2)) - (smooth.mean() + np.arange(4)[::-1])).max() < 2


def test_lossy_jpeg_of_twelve_bits_is_near_what_it_was(tmp_path: Path):
    smooth = 100 * np.add.outer(np.arange(12), np.arange(14)).astype(np.uint16)

    def change(i: int, file: Any) -> None:
        file.BitsStored, file.HighBit = 12, 11
        frame = imagecodecs.jpeg8_encode(smooth, bitspersample=12, level=98)
        compress(i, file, uid.JPEGExtended12Bit, frame)

    image = read_folder(axial_series(tmp_path / "s", VOLUME, change=change))
    assert np.abs(image.array[0] - smooth).max() < 20


@pytest.mark.parametrize("name", ENCODERS)
def test_frames_of_another_size_than_promised_are_refused(name: str, tmp_path: Path):
    syntax, encode = ENCODERS[name]
    large = encode(np.zeros((300, 100), np.uint16))
    with pytest.raises(UserError, match=r"000\.dcm cannot be decoded"):
        read_folder(
            axial_series(
                tmp_path / "s",
                VOLUME[:1],
                change=lambda i, file: compress(i, file, syntax, large),
            )
        )
    if name != "RLE":
        assert frame_shape(large) == (300, 100)


@pytest.mark.parametrize("name", ENCODERS)
def test_damaged_frames_are_refused(name: str, tmp_path: Path):
    syntax, encode = ENCODERS[name]
    frame = encode(VOLUME[0])
    with pytest.raises(UserError, match=r"000\.dcm"):
        read_folder(
            axial_series(
                tmp_path / "s",
                VOLUME[:1],
                change=lambda i, file: compress(i, file, syntax, frame[: len(frame) // 6]),
            )
        )


@pytest.mark.parametrize(
    "header",
    [
        (2, 64, 0xFF000054),  # beyond the frame: imagecodecs ended the process
        (2, 64, 63),
        (2, 64, 64),
        (2, 60, 100),
        (16, 64, 100),
        (0, 64, 100),
        (1, 64, 0),
    ],
)
def test_segments_outside_an_rle_frame_are_refused(header: tuple[int, ...], tmp_path: Path):
    damaged = struct.pack("<3L", *header) + rle(VOLUME[0])[12:]
    with pytest.raises(UserError, match=r"000\.dcm cannot be decoded"):
        read_folder(
            axial_series(
                tmp_path / "s",
                VOLUME[:1],
                change=lambda i, file: compress(i, file, uid.RLELossless, damaged),
            )
        )
