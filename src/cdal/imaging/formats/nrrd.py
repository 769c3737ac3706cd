"""NRRD, with the numbers behind the header or in a file beside it.

Headers are read, and files are written, by pynrrd.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from cdal.imaging.formats.voxels import LEVEL, Stored, beside, image_of, need_millimetres, placed
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded

_LONGEST_HEADER = 2**24
_ENCODINGS = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "ascii": "text",
    "text": "text",
    "txt": "text",
}
_KINDS = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "longlong": "i8",
    "long long": "i8",
    "int64": "i8",
    "ulonglong": "u8",
    "ulong long": "u8",
    "uint64": "u8",
    "float": "f4",
    "double": "f8",
}
"""Types without their synonyms of `signed`, `unsigned`, `int` and `_t`."""

_IN_SPACE = ("domain", "space", "time", "list", "none", "???")
"""Kinds of axes that are not the channels of a voxel; `list` and `time` are a fourth axis."""

_TO_LPS = {
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read(path: Path, as_label: bool, fourth_axis: int = 0) -> Image:
    """Read a picture or a volume, with any number of channels."""
    fields, data, start = read_header(path)
    sizes = tuple(int(n) for n in fields["sizes"])
    count = int(fields["dimension"])
    if len(sizes) != count or not 2 <= count <= 5:
        raise UserError(f"{path}: expected a picture or a volume; its header says {sizes}.")
    kind = _kind(path, fields)
    encoding = _ENCODINGS.get(str(fields["encoding"]).lower())
    if encoding is None:
        raise UserError(
            f"{path}: expected the encoding raw, gzip, bzip2 or text; it is "
            f"{fields['encoding'][:80]}. Save it as gzip."
        )
    start = _skipped(path, fields, data, start, encoding)
    stored = Stored(path, data, start, encoding, kind, sizes)
    kinds = [str(name).lower() for name in fields.get("kinds", ["domain"] * count)]
    channels = [i for i, name in enumerate(kinds) if name not in _IN_SPACE]
    if len(kinds) != count or len(channels) > 1 or "complex" in kinds:
        raise UserError(
            f"{path}: expected a picture or a volume with channels; the kinds of its axes are "
            f"{' '.join(kinds)[:80]}."
        )
    axis = channels[0] if channels else None
    if "list" in kinds and axis is None and kinds.index("list") < count - 1:
        # A list of volumes that lies before their axes in space: the same as a fourth axis.
        axis = kinds.index("list")
        if sizes[axis] != fourth_axis and sizes[axis] > 1:
            raise UserError(
                f"{path}: expected a picture or a volume; it is a list of {sizes[axis]}. Save one."
            )
    axes, origin = _geometry(path, fields, [i for i in range(count) if i != axis])
    return image_of(stored, axis, fourth_axis, axes, origin)


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write a picture or a volume, `[*S]` or `[N, *S]`, compressed, in one file."""
    numbers, axes, origin, vector = placed(array, like)
    of_voxel = [np.full(len(axes), np.nan)] if vector else []
    header = {
        "space": "left-posterior-superior" if len(axes) == 3 else None,
        "space dimension": None if len(axes) == 3 else len(axes),
        "kinds": [*(["vector"] if vector else []), *["domain"] * len(axes)],
        "space directions": np.stack([*of_voxel, *axes.T]),
        "space origin": origin,
        "encoding": "gzip",
    }
    known = {name: value for name, value in header.items() if value is not None}
    with encoded(path) as buffer:
        nrrd.write(buffer, numbers, known, index_order="C", compression_level=LEVEL)


def read_header(path: Path) -> tuple[dict[str, Any], Path, int]:
    """Read the header of a file.

    Returns:
        Its fields as pynrrd names them, without spaces in the names of `data file`, `line skip` and
        `byte skip`; the file with the numbers; and the place behind the header in it.

    Raises:
        UserError: the header is damaged, or its numbers are not in this file or beside it.
    """
    with path.open("rb") as file:
        content = file.read(_LONGEST_HEADER)
    if not content.startswith(b"NRRD000"):
        raise UserError(
            f"{path} cannot be read as NRRD: it does not begin with NRRD. Is the file complete, "
            "and is it what its name says?"
        )
    lines = []
    place = 0
    for line in BytesIO(content):
        place += len(line)
        if not line.strip():
            break
        lines.append(line.decode("utf-8", "replace"))
    fields = dict(nrrd.read_header(lines))
    for name in ("data file", "line skip", "byte skip"):
        if name in fields:
            fields[name.replace(" ", "")] = fields.pop(name)
    if missing := {"type", "dimension", "sizes", "encoding"} - set(fields):
        raise UserError(f"{path} cannot be read as NRRD: it lacks {', '.join(sorted(missing))}.")
    data = fields.get("datafile")
    if data is None:
        return fields, path, place
    return fields, beside(path, data), 0


def _kind(path: Path, fields: dict[str, Any]) -> np.dtype[Any]:
    """Return the type of the numbers."""
    words = str(fields["type"]).removesuffix("_t").replace("unsigned ", "u").replace("signed ", "")
    name = _KINDS.get(words.removesuffix(" int") or "int")
    if name is None:
        raise UserError(
            f"{path}: expected whole or floating-point numbers; it holds {fields['type'][:80]}."
        )
    kind = np.dtype(name)
    if kind.itemsize == 1:
        return kind
    endian = fields.get(
        "endian", "little" if fields["encoding"] in ("ascii", "text", "txt") else ""
    )
    if endian not in ("little", "big"):
        raise UserError(f"{path}: expected `endian: little` or `big`; it is {endian[:80]!r}.")
    return kind.newbyteorder(">" if endian == "big" else "<")


def _skipped(path: Path, fields: dict[str, Any], data: Path, start: int, encoding: str) -> int:
    """Return the place of the first number, behind lines and bytes to skip."""
    lines, skipped = int(fields.get("lineskip", 0)), int(fields.get("byteskip", 0))
    if lines:
        with data.open("rb") as file:
            file.seek(start)
            for _ in range(lines):
                if not file.readline():
                    break
            start = file.tell()
    if skipped == -1 and encoding == "raw":
        size = _kind(path, fields).itemsize * np.prod([float(n) for n in fields["sizes"]])
        return max(0, int(data.stat().st_size - size))
    if skipped and encoding != "raw":
        raise UserError(
            f"{path}: `byte skip` of compressed numbers is not supported. Save it anew."
        )
    if skipped < 0:
        raise UserError(f"{path}: expected a `byte skip` from -1; it is {skipped}.")
    return start + skipped


def _geometry(
    path: Path, fields: dict[str, Any], domain: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return axes (as columns) and origin in millimetres, LPS+."""
    units = [str(unit) for unit in (*fields.get("space units", ()), *fields.get("units", ()))]
    need_millimetres(path, units)
    dims = min(3, len(domain))
    directions = fields.get("space directions")
    if directions is not None:
        axes = [
            np.asarray(directions[i], float)
            for i in domain[:dims]
            if i < len(directions) and directions[i] is not None
        ]
        axes = [row for row in axes if len(row) == dims and not np.isnan(row).any()]
        if len(axes) < dims:
            if dims == 2:  # a slice in space is read as a picture
                return np.eye(2), np.zeros(2)
            raise UserError(
                f"{path}: expected a direction in space for each of its {dims} axes; its header "
                f"gives {len(axes)}."
            )
        origin = np.asarray(fields.get("space origin", np.zeros(dims)), float)
        flips = np.array(_TO_LPS.get(str(fields.get("space", "")).lower(), (1, 1, 1))[:dims])
        if len(origin) != dims:
            raise UserError(f"{path}: expected an origin of {dims} numbers; it has {len(origin)}.")
        return flips[:, None] * np.stack(axes, 1), flips * origin
    spacing = np.array([fields.get("spacings", [1.0] * 5)[i] for i in domain[:dims]], float)
    spacing[np.isnan(spacing)] = 1
    first = np.zeros(dims)
    for name in ("axis mins", "axismins"):
        if name in fields:
            first = np.array([fields[name][i] for i in domain[:dims]], float)
            first[np.isnan(first)] = 0
    return np.diag(spacing), first
