"""Reading single DICOM files: bounded, silent, with fields of any form."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cdal.imaging.formats import is_dicom
from cdal.imaging.formats.dicom_codecs import register
from cdal.imaging.formats.quiet import quiet
from cdal.imaging.image import need_regular, need_size
from cdal.runtime.errors import UserError

_HEADER = 2**24
"""Bytes that a header may have in a deflated file; real ones have some thousand."""

_GROUP_LENGTH_AT = 132
"""Where the length of the file meta information is, after the preamble and `DICM`."""

_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientBirthDate",
    "PatientAddress",
    "PatientMotherBirthName",
    "AccessionNumber",
    "ReferringPhysicianName",
)


register()


@contextmanager
def lenient() -> Iterator[None]:
    """Keep pydicom and highdicom from printing, warning, or refusing odd fields of a source.

    Most files deviate from the standard in ways that do not matter here, and what the libraries say
    of it may hold the name of a patient.
    """
    validation = pydicom.config.settings.writing_validation_mode
    try:
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        with quiet():
            yield
    finally:
        pydicom.config.settings.writing_validation_mode = validation


def read_file(path: Path, pixels: bool = True) -> Any:
    """Read a DICOM file as a pydicom dataset.

    Args:
        path: path of the file.
        pixels: whether to read the pixels too.

    Raises:
        UserError: the file is damaged, it is deflated and inflates to more than it promises, or it
            may not be read.
    """
    need_regular(path)
    try:
        with lenient():
            source: Any = _inflated(path, pixels) if _is_deflated(path) else path
            dataset = pydicom.dcmread(source, stop_before_pixels=not pixels)
            dataset.filename = str(path)
            return dataset
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged files raise many exception types
        raise UserError(
            f"{path} cannot be read as DICOM: {reason_of(error)}. Is the file complete? Otherwise "
            "remove it."
        ) from error


def sop_class_of(path: Path) -> str:
    """What kind of object a file holds, as UID; "" if it is not DICOM or damaged."""
    if not is_dicom(path):
        return ""
    try:
        with lenient():
            return text_of(pydicom.filereader.read_file_meta_info(path), "MediaStorageSOPClassUID")
    except Exception:  # damaged files raise many exception types
        return ""


def items_of(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; none if it is missing or something else."""
    try:
        with lenient():
            items = dataset.get(keyword)
    except Exception:  # pydicom decodes a field on first access
        return []
    return list(items) if isinstance(items, Sequence) else []


def text_of(dataset: Any, keyword: str) -> str:
    """A field as text; "" if it is missing, the values joined if there are several."""
    try:
        with lenient():
            value = dataset.get(keyword)
    except Exception:  # pydicom decodes a field on first access
        return ""
    if value is None:
        return ""
    parts = value if isinstance(value, MultiValue | list | tuple) else [value]
    return "\\".join(str(part).strip() for part in parts)


def numbers_of(dataset: Any, keyword: str, count: int, name: str) -> np.ndarray | None:
    """A field of so many finite numbers; `None` if it is missing or empty.

    Args:
        dataset: dataset that has the field.
        keyword: keyword of the field.
        count: how many numbers it must hold.
        name: name of the slice, for the message.

    Raises:
        UserError: the field holds something else.
    """
    text = text_of(dataset, keyword)
    if not text:
        return None
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.array([])
    if len(values) != count or not np.isfinite(values).all():
        wanted = "a finite number" if count == 1 else f"{count} finite numbers"
        raise UserError(f"{name}: expected {keyword} to hold {wanted}; it holds {text!r:.80}.")
    return values


def count_of(dataset: Any, keyword: str) -> int:
    """A field that counts something; 1 if it is missing or holds no whole number from 1."""
    text = text_of(dataset, keyword)
    return int(text) if text.isascii() and text.isdigit() and int(text) else 1


def need_pixels(path: Path, header: Any) -> tuple[int, int, int]:
    """The shape `(frames, rows, columns)` that a header promises.

    Raises:
        UserError: the header has no size, or one too large to be held in memory.
    """
    sizes = [text_of(header, keyword) for keyword in ("Rows", "Columns")]
    if not all(size.isascii() and size.isdigit() and int(size) for size in sizes):
        raise UserError(f"{path}: expected a DICOM image; it has no size. Is the file complete?")
    shape = (count_of(header, "NumberOfFrames"), int(sizes[0]), int(sizes[1]))
    need_size(path, (*shape, count_of(header, "SamplesPerPixel")))
    return shape


def reason_of(error: BaseException, datasets: Iterable[Any] = ()) -> str:
    """What a library's error says, without what identifies the patient of the datasets."""
    text = (str(error).strip().splitlines() or [""])[0][:300] or type(error).__name__
    for dataset in datasets:
        for keyword in _IDENTIFYING:
            for part in {text_of(dataset, keyword), *text_of(dataset, keyword).split("^")}:
                if len(part) > 1:
                    text = text.replace(part, "...")
    return text.rstrip(".")


def _is_deflated(path: Path) -> bool:
    meta = pydicom.filereader.read_file_meta_info(path)
    return text_of(meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def _inflated(path: Path, pixels: bool) -> BytesIO:
    """A deflated file, inflated no further than its header promises.

    pydicom inflates all of it, also for the header, and a file of 3 MB may hold 3 GB.
    """
    raw = path.read_bytes()
    start = _GROUP_LENGTH_AT + 12 + int.from_bytes(raw[_GROUP_LENGTH_AT + 8 :][:4], "little")
    head = _as_plain(path, raw[:start], zlib.decompressobj(-15).decompress(raw[start:], _HEADER))
    if not pixels:
        return head
    header = pydicom.dcmread(head, stop_before_pixels=True)
    numbers = math.prod(need_pixels(path, header)) * count_of(header, "SamplesPerPixel")
    most = _HEADER + numbers * max(1, count_of(header, "BitsAllocated") // 8)
    stream = zlib.decompressobj(-15)
    body = stream.decompress(raw[start:], most)
    if not stream.eof and stream.decompress(stream.unconsumed_tail, 1):
        raise UserError(
            f"{path}: its header promises {numbers:.3g} numbers; inflated, the file holds more "
            f"than {most:.3g} bytes. Is it the right file?"
        )
    return _as_plain(path, raw[:start], body)


def _as_plain(path: Path, meta: bytes, body: bytes) -> BytesIO:
    """The same file in the syntax that is not deflated, whose UID is a character shorter."""
    deflated = DeflatedExplicitVRLittleEndian.encode()
    if deflated not in meta:
        raise UserError(f"{path} cannot be read as DICOM: its header is damaged.")
    plain = deflated.removesuffix(b".99").ljust(len(deflated), b"\0")
    return BytesIO(meta.replace(deflated, plain) + body)
