"""Forms with files (multipart/form-data), streamed to disk as they come.

A large file is never in memory, and no more than one file is open at a time: a DICOM series has
thousands.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cdal.imaging.formats import suffix_of
from cdal.serve.names import folder_name, safe_name
from cdal.serve.refusals import unusable

_MOST_FILES, _MOST_FIELDS = 20_000, 100
_LONGEST_FIELD, _LONGEST_HEADER = 2**20, 2**13
_NIFTI_HEADER = 348
"""Bytes of the header of NIfTI; that of its second version is longer."""

_LEFT_FREE = 2**28
"""Bytes of the disk that uploads leave free."""


@dataclass(frozen=True)
class Received:
    """A file of a form, on disk.

    Attributes:
        path: where it is; its name is safe.
        part: name of its part of the form.
        folder: name of the folder that the client has it in; empty if it does not say.
    """

    path: Path
    part: str
    folder: str = ""


@dataclass
class Form:
    """A form.

    Attributes:
        fields: values of each field that is no file.
        files: its files, in their order.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[Received] = field(default_factory=list)

    def named(self, part: str) -> list[Received]:
        """The files of a part."""
        return [file for file in self.files if file.part == part]

    def get(self, name: str, otherwise: str = "") -> str:
        """The last value of a field."""
        return self.fields.get(name, [otherwise])[-1]


class _Parts:
    """What the parser of python-multipart calls."""

    def __init__(self, folder: Path, files: Collection[str]) -> None:
        self.form, self._folder, self._files = Form(), folder, files
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field, self._text = "", bytearray()
        self._file: BinaryIO | None = None
        self._place: Received | None = None
        self.ended = False

    def callbacks(self) -> dict[str, object]:
        parts = ("part_begin", "part_data", "part_end", "end")
        headers = ("header_field", "header_value", "header_end", "headers_finished")
        return {f"on_{name}": getattr(self, f"_on_{name}") for name in (*parts, *headers)}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _on_part_begin(self) -> None:
        self._headers, self._text, self._file, self._place = {}, bytearray(), None, None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._need(len(self._name) <= _LONGEST_HEADER, "its headers are too long")

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._need(len(self._value) <= _LONGEST_HEADER, "its headers are too long")

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._need(b"name" in options, "a part has no name")
        self._field = _text(options[b"name"])
        if b"filename" not in options:
            self._need(sum(map(len, self.form.fields.values())) < _MOST_FIELDS, "too many fields")
            return
        if self._field not in self._files:
            raise unusable(
                f"The form has a file called {self._field!r:.40}; expected "
                f"{', '.join(self._files)}."
            )
        self._need(len(self.form.files) < _MOST_FILES, "too many files")
        name = _text(options[b"filename"])
        self._place = Received(self._free(safe_name(name)), self._field, folder_name(name))
        self._file = self._place.path.open("xb")

    def _free(self, name: str) -> Path:
        """A path in the folder that no other file of the form has."""
        path, number = self._folder / name, 2
        while path.exists():
            path, number = self._folder / f"{number}-{name}", number + 1
        return path

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        self._need(len(self._text) <= _LONGEST_FIELD, "a field is too long")

    def _on_part_end(self) -> None:
        if self._file is not None and self._place is not None:
            self._file.close()
            self.form.files.append(self._place)
        else:
            self.form.fields.setdefault(self._field, []).append(_text(bytes(self._text)))

    def _on_end(self) -> None:
        self.ended = True

    def _need(self, fine: bool, why: str) -> None:
        if not fine:
            raise unusable(f"The form cannot be read: {why}.")


def _text(raw: bytes) -> str:
    """Text of a form: UTF-8, as browsers send it; else every byte is a character."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


_MASK = (
    "Expected a mask: the bare bytes of a NIfTI or PNG file, or a form with one file, as in: "
    "curl -T mask.nii.gz ADDRESS, or curl -X PUT -F file=@mask.nii.gz ADDRESS"
)


async def receive_mask(content_type: str, stream: AsyncIterator[bytes], folder: Path) -> Path:
    """Write the mask in a request into a folder: its bare bytes, or the only file of a form.

    Args:
        content_type: header of the request.
        stream: body of the request.
        folder: folder for the file, whose suffix says what its bytes are.

    Raises:
        HTTPException: 422, it is no mask; 507, the disk is full; and what the stream raises.
    """
    if content_type.lower().startswith("multipart/form-data"):
        form = await receive_form(content_type, stream, folder, ("file",))
        if len(form.files) != 1 or form.fields:
            given = [*form.fields, *(file.part for file in form.files)]
            raise unusable(f"{_MASK}. The form has {', '.join(given)[:80] or 'nothing'}.")
        path = form.files[0].path
        if suffix_of(path) is not None and path.stat().st_size:
            return path
    else:
        path = await _receive_body(stream, folder)
    return path.rename(path.with_name(f"mask{_suffix_by_bytes(path)}"))


async def _receive_body(stream: AsyncIterator[bytes], folder: Path) -> Path:
    path = folder / "body"
    try:
        with path.open("xb") as file:
            async for chunk in stream:
                _need_disk(folder)
                file.write(chunk)
    except OSError as error:
        raise HTTPException(507, f"The body cannot be written: {error.strerror}.") from error
    return path


def _suffix_by_bytes(path: Path) -> str:
    """The suffix of a mask by its first bytes.

    Raises:
        HTTPException: 422, they are of no such file.
    """
    with path.open("rb") as file:
        head = file.read(_NIFTI_HEADER)
    known = {b"\x89PNG": ".png", b"\x1f\x8b": ".nii.gz", b"NRRD": ".nrrd"}
    for magic, suffix in known.items():
        if head.startswith(magic):
            return suffix
    sizes = [number.to_bytes(4, order) for number in (348, 540) for order in ("little", "big")]
    if head[:4] in sizes and len(head) == _NIFTI_HEADER:
        return ".nii"
    began = "is empty" if not head else f"begins with {head[:12]!r}"
    raise unusable(f"{_MASK}. What came {began}.")


def _need_disk(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _LEFT_FREE:
        raise HTTPException(507, "The server's disk is full. Ask again later.")


async def receive_form(
    content_type: str, stream: AsyncIterator[bytes], folder: Path, files: Collection[str]
) -> Form:
    """Read a form, and write its files into a folder.

    Args:
        content_type: header of the request.
        stream: body of the request.
        folder: folder for the files.
        files: names of the parts that are files.

    Raises:
        HTTPException: 422, it is no such form or has a file under another name; 507, the disk is
            full; and what the stream raises.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise unusable(
            "Expected a form with files (Content-Type: multipart/form-data), as in: "
            f"curl -F {next(iter(files))}=@scan.nii.gz ADDRESS"
        )
    parts = _Parts(folder, files)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())  # type: ignore[arg-type]
        async for chunk in stream:
            _need_disk(folder)
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise unusable(f"The form cannot be read: {error}.") from error
    except OSError as error:
        raise HTTPException(507, f"The form cannot be written: {error.strerror}.") from error
    finally:
        parts.close()
    if not parts.ended:
        raise unusable("The form ends before its last line. Was the connection lost?")
    return parts.form
