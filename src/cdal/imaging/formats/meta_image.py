"""MetaImage: headers of lines `Name = value`, with the numbers behind them or in a file beside."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

from cdal.imaging.formats.voxels import LEVEL, Stored, beside, image_of, need_millimetres, placed
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_bytes

_LONGEST_HEADER = 2**20
_KINDS = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_SYNONYMS = {
    "Position": "Offset",
    "Origin": "Offset",
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
_FIELDS = {
    "ObjectType",
    "NDims",
    "DimSize",
    "ElementType",
    "ElementNumberOfChannels",
    "ElementSpacing",
    "ElementSize",
    "Offset",
    "TransformMatrix",
    "BinaryData",
    "BinaryDataByteOrderMSB",
    "CompressedData",
    "DistanceUnits",
    "HeaderSize",
    "ElementDataFile",
}


def read(path: Path, as_label: bool, fourth_axis: int = 0) -> Image:
    """Read a picture or a volume, with any number of channels."""
    fields, end = _header(path)
    if fields.get("ObjectType", "Image") != "Image":
        raise UserError(f"{path}: expected an image; its header says {fields['ObjectType'][:80]}.")
    dims = int(fields["NDims"])
    if not 2 <= dims <= 4:
        raise UserError(f"{path}: expected a picture or a volume; its header says {dims} axes.")
    need_millimetres(path, [fields.get("DistanceUnits", "")])
    kind = fields.get("ElementType", "")
    if kind not in _KINDS:
        raise UserError(
            f"{path}: expected whole or floating-point numbers; it holds {kind[:80] or 'no type'}."
        )
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    shape = tuple(int(word) for word in fields["DimSize"].split())
    if len(shape) != dims:
        raise UserError(f"{path}: expected {dims} numbers for DimSize; they are {shape}.")
    big = _is_true(fields, "BinaryDataByteOrderMSB")
    stored_kind = np.dtype((">" if big else "<") + _KINDS[kind])
    shape = (channels, *shape) if channels != 1 else shape
    encoding = "text"
    if _is_true(fields, "BinaryData", default=True):
        encoding = "gzip" if _is_true(fields, "CompressedData") else "raw"
    data, start = _data(path, fields, end, stored_kind.itemsize * math.prod(shape))
    stored = Stored(path, data, start, encoding, stored_kind, shape)
    spacing = _numbers(path, fields, "ElementSpacing", dims, "ElementSize")
    # Each row of the matrix is the direction of an axis.
    matrix = _numbers(path, fields, "TransformMatrix", dims * dims)
    turn = np.eye(dims) if matrix is None else matrix.reshape(dims, dims).T
    origin = _numbers(path, fields, "Offset", dims)
    return image_of(
        stored,
        0 if channels != 1 else None,
        fourth_axis,
        turn * (np.ones(dims) if spacing is None else spacing),
        np.zeros(dims) if origin is None else origin,
    )


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write a picture or a volume, `[*S]` or `[N, *S]`, compressed, in one file."""
    numbers, axes, origin, vector = placed(array, like)
    dims = len(axes)
    spacing = np.linalg.norm(axes, axis=0)
    kinds = {np.dtype(kind): name for name, kind in reversed(_KINDS.items())}
    little = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)
    packed = zlib.compress(little.data, LEVEL)
    fields = {
        "ObjectType": "Image",
        "NDims": dims,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(packed),
        "TransformMatrix": _words((axes / spacing).T),  # each row is the direction of an axis
        "Offset": _words(origin),
        "CenterOfRotation": _words(np.zeros(dims)),
        "ElementSpacing": _words(spacing),
        "DimSize": " ".join(map(str, numbers.shape[:dims][::-1])),
        **({"ElementNumberOfChannels": numbers.shape[-1]} if vector else {}),
        "ElementType": kinds[little.dtype.newbyteorder("=")],
        "ElementDataFile": "LOCAL",  # has to be the last
    }
    header = "".join(f"{name} = {value}\n" for name, value in fields.items())
    write_bytes(path, header.encode("ascii") + packed)


def _words(numbers: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in numbers.ravel())


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header, and the number of its bytes."""
    with path.open("rb") as file:
        content = file.read(_LONGEST_HEADER)
    fields: dict[str, str] = {}
    place = 0
    while "ElementDataFile" not in fields:
        end = content.find(b"\n", place)
        line = content[place : end if end >= 0 else None].decode("latin-1")
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals and name:
            raise UserError(
                f"{path} cannot be read as MetaImage: expected a header of lines `Name = value`; "
                f"it holds {line[:40]!r}. Is the file complete, and is it what its name says?"
            )
        name = _SYNONYMS.get(name, name)
        if name in fields and fields[name] != value:
            raise UserError(f"{path}: its header says {name} twice, {fields[name]} and {value}.")
        if name in _FIELDS:
            fields[name] = value
        if end < 0:
            break
        place = end + 1
    if missing := {"NDims", "DimSize", "ElementType", "ElementDataFile"} - set(fields):
        raise UserError(
            f"{path} cannot be read as MetaImage: its header lacks {', '.join(sorted(missing))}. "
            "Is the file complete, and is it what its name says?"
        )
    return fields, place


def _data(path: Path, fields: dict[str, str], end: int, size: int) -> tuple[Path, int]:
    """Return the file with the numbers, and the place of the first."""
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    data = path if local else beside(path, name)
    skipped = int(fields.get("HeaderSize", "0"))
    if skipped < 0:
        return data, max(0, data.stat().st_size - size)
    return data, end if local else skipped


def _numbers(
    path: Path, fields: dict[str, str], name: str, count: int, other: str = ""
) -> np.ndarray | None:
    """Return the numbers of a field, `[count]`; `None` if neither it nor the other is there."""
    text = fields.get(name, fields.get(other))
    if text is None:
        return None
    numbers = np.array([float(word) for word in text.split()])
    if len(numbers) != count:
        raise UserError(f"{path}: expected {count} numbers for {name}; they are {text[:80]}.")
    return numbers


def _is_true(fields: dict[str, str], name: str, default: bool = False) -> bool:
    value = fields.get(name)
    return default if value is None else value[:1] in ("T", "t", "1")
