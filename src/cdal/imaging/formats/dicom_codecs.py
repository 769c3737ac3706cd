"""Decoding compressed DICOM frames with imagecodecs, where pydicom has no free or fast decoder."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

_NAME = "imagecodecs"
_SYNTAXES = (
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGExtended12Bit,
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
)

DECODER_DEPENDENCIES = dict.fromkeys(_SYNTAXES, ("imagecodecs>=2024.6",))
"""What pydicom asks of a module with a decoder."""

_RLE_HEADER = 64
"""Bytes of the header of an RLE frame: the number of segments, and the places of up to 15."""

_STANDALONE = {0x01, *range(0xD0, 0xDA)}
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def is_available(syntax: str) -> bool:
    """Whether frames of a transfer syntax can be decoded; pydicom asks for this."""
    return syntax in _SYNTAXES


def register() -> None:
    """Make the decoder known to pydicom."""
    for syntax in _SYNTAXES:
        decoder = get_decoder(syntax)
        if _NAME not in decoder.available_plugins:
            decoder.add_plugin(_NAME, (__name__, "decode_frame"))


def plugin_for(syntax: str, samples: int) -> str:
    """The decoder that pydicom shall take; "" if it may choose among its own."""
    return _NAME if syntax in _SYNTAXES and (samples == 1 or syntax != RLELossless) else ""


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode one frame for pydicom.

    Args:
        source: compressed frame.
        runner: pydicom's description of the frame.

    Returns:
        Numbers of `runner.bits_allocated` bits in the order of rows, columns, samples.
    """
    import imagecodecs

    samples, expected = runner.samples_per_pixel, (runner.rows, runner.columns)
    if (shape := frame_shape(source)) not in (None, expected):
        raise ValueError(f"the frame has {shape} rows and columns, its header says {expected}")
    kind = np.dtype(f"<u{runner.bits_allocated // 8}")
    if runner.transfer_syntax == RLELossless:
        _need_segments(source, samples * kind.itemsize)
        pixels = np.frombuffer(imagecodecs.dicomrle_decode(source, kind), kind)
        pixels = pixels.reshape(expected) if pixels.size == expected[0] * expected[1] else pixels
    elif runner.transfer_syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):
        pixels = imagecodecs.jpeg2k_decode(source)
    elif samples == 1:
        pixels = imagecodecs.jpeg8_decode(source)
    else:
        pixels = imagecodecs.jpegsof3_decode(source)
    if pixels.shape[:2] != expected or pixels.size != expected[0] * expected[1] * samples:
        raise ValueError(f"the frame decodes to the shape {pixels.shape}")
    whole = pixels.astype(kind, copy=False)
    unused = runner.bits_allocated - runner.bits_stored
    if runner.pixel_representation == 1 and unused and pixels.dtype.kind == "u":
        # Encoders may leave out the sign's repetition in the unused bits.
        signed = (whole << unused).view(f"<i{kind.itemsize}") >> unused
        whole = signed.view(kind)
    runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(whole).tobytes()


def _need_segments(source: bytes, count: int) -> None:
    """Require RLE segments that lie in the frame, by its header (DICOM PS 3.5, annex G.5).

    imagecodecs believes the header, and reads other memory or ends the process if it is wrong.
    """
    if len(source) < _RLE_HEADER:
        raise ValueError(f"the frame has {len(source)} bytes, fewer than its header")
    segments, *offsets = struct.unpack("<16L", source[:_RLE_HEADER])
    if segments != count:
        raise ValueError(f"the frame has {segments} segments instead of {count}")
    places = [*offsets[:count], len(source)]
    if places[0] != _RLE_HEADER or sorted(set(places)) != places:
        raise ValueError("its segments do not lie one after the other within the frame")


def frame_shape(source: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 frame will decode to; `None` if unknown.

    Decoders allocate this before they see whether the data suffice.
    """
    if source[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SOC and SIZ
        size = [int.from_bytes(source[at : at + 4], "big") for at in range(8, 24, 4)]
        return size[1] - size[3], size[0] - size[2]
    if source[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(source) and source[at] == 0xFF:
        marker = source[at + 1]
        if marker in _FRAME_HEADERS:
            return (
                int.from_bytes(source[at + 5 : at + 7], "big"),
                int.from_bytes(source[at + 7 : at + 9], "big"),
            )
        if marker == 0xFF:  # fill byte
            at += 1
        else:
            skipped = 0 if marker in _STANDALONE else int.from_bytes(source[at + 2 : at + 4], "big")
            at += 2 + skipped
    return None
