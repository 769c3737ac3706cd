"""Segmentations of 3D Slicer, `.seg.nrrd`, whose header and data pynrrd reads."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nrrd
import numpy as np
from scipy import ndimage

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.polygons import nothing
from cdal.imaging.image import LPS, Image, invertible, need_size
from cdal.imaging.palette import PALETTE
from cdal.runtime.errors import UserError

_TO_RAS = {
    "left-posterior-superior": LPS,
    "lps": LPS,
    "right-anterior-superior": np.eye(4),
    "ras": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "las": np.diag([-1.0, 1.0, 1.0, 1.0]),
}

_MOST_HEADER = 2**20
"""Longest header, in bytes."""

_MOST_VALUE = 2**16 - 1
"""Largest value of a segment."""

_CLOSE = 1e-3
"""Part of a voxel that is rounding noise of a header."""

_PAGES = (".tif", ".tiff")
"""Suffixes of formats whose volumes are pages, so that their first axis are rows."""


class _Named(NamedTuple):
    """A segment of the header: its name, and the layer and the value of its voxels."""

    name: str
    layer: int
    value: int


def recognises(path: Path) -> bool:
    """Whether the header of a file describes segments."""
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER)
    return head.startswith(b"NRRD") and b"\nSegment0_" in head


def class_names(path: Path) -> Iterator[str]:
    """Yield the name of each segment, whether a voxel has its value or not."""
    header, _ = _header(path)
    return (segment.name for segment in _segments(path, header))


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the segments, in the order of the file, on the grid of the image.

    Each voxel of the image gets the value of the nearest voxel of the file. What the file does not
    cover is background. An image without a place in space is covered voxel by voxel, from the first
    voxel that the file names. Voxels whose value is no segment's have an empty name.

    Raises:
        UserError: file and image do not overlap, or the header lacks what places them.
    """
    header, start = _header(path)
    segments = _segments(path, header)
    layers = _layers(path, header, start)
    axes = _axes_of_slicer(like)
    shape = tuple((*like.shape, 1)[axis] for axis in axes)
    if like.affine is None:
        to_file = np.eye(4)
        to_file[:3, 3] = [-first for first in _offset(path, header, layers.shape[1:], shape)]
    else:
        to_file = np.linalg.inv(_affine(path, header)) @ like.affine
    need_size(path, (len(layers), *shape))
    found = [_sampled(layer, to_file, shape) for layer in layers]
    if all(values is None for values in found):
        raise UserError(
            f"{path}: it covers no voxel of its image: they lie apart in space. Is it the "
            "segmentation of this image?"
        )
    own = [
        None if values is None else values.transpose(np.argsort(axes)).reshape(like.shape)
        for values in found
    ]
    boxes = [[] if values is None else ndimage.find_objects(values) for values in own]
    known = {(segment.layer, segment.value) for segment in segments}
    nameless = [
        _Named("", layer, value)
        for layer, listed in enumerate(boxes)
        for value, box in enumerate(listed, start=1)
        if box is not None and (layer, value) not in known
    ]
    for name, layer, value in [*nameless, *segments]:
        values, box = own[layer], None
        if value <= len(boxes[layer]):
            box = boxes[layer][value - 1]
        if values is None or box is None:
            yield nothing(name, len(like.shape))
        else:
            yield Segment(name, box, values[box] == value)


def write(path: Path, label: np.ndarray, like: Image, classes: Sequence[str]) -> None:
    """Write classes as a segmentation of one layer, the value of each segment being its class.

    Args:
        path: path to write to; the caller makes it appear whole.
        label: classes `[*S]`; a picture is written as a volume of one slice.
        like: image whose geometry is used.
        classes: names of the classes, the background first.
    """
    axes = _axes_of_slicer(like)
    values = label.reshape((*label.shape, 1)[:3]).transpose(axes)
    affine = LPS @ (np.eye(4) if like.affine is None else like.affine)
    if like.affine is None:
        affine = np.eye(4)
    extent = " ".join(f"0 {side - 1}" for side in values.shape)
    directions, origin = (_vector(column) for column in affine[:3, :3].T), _vector(affine[:3, 3])
    lines = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, values.shape))}",
        f"space directions: {' '.join(directions)}",
        "kinds: domain domain domain",
        "encoding: gzip",
        f"space origin: {origin}",
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    for k, name in enumerate(classes[1:], start=1):
        about = {
            "Color": " ".join(f"{part / 255:.6g}" for part in PALETTE[k]),
            "ColorAutoGenerated": 0,
            "Extent": extent,
            "ID": f"Segment_{k}",
            "LabelValue": k,
            "Layer": 0,
            "Name": " ".join(name.split()),
            "NameAutoGenerated": 0,
        }
        lines += [f"Segment{k - 1}_{key}:={value}" for key, value in about.items()]
    # pynrrd would refuse names with letters that are not ASCII.
    data = np.asarray(values, np.uint8).tobytes(order="F")
    text = "\n".join(lines) + "\n\n"
    path.write_bytes(text.encode("utf-8") + gzip.compress(data, mtime=0))


def _vector(numbers: np.ndarray) -> str:
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _axes_of_slicer(like: Image) -> tuple[int, int, int]:
    """Return the image's axes in Slicer's order, which begins with the columns of a picture."""
    paged = like.affine is None and like.suffix in _PAGES
    return (1, 0, 2) if paged or len(like.shape) == 2 else (0, 1, 2)


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    """Return the header and where the data begins.

    Raises:
        UserError: it is no NRRD, it has no end, or its data is in another file.
    """
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER)
    end = re.search(rb"\r?\n\r?\n", head)
    if not head.startswith(b"NRRD") or end is None:
        raise UserError(f"{path}: expected NRRD; it has no whole header. Save it again.")
    # pynrrd would drop the letters of a header that are not ASCII.
    header = nrrd.read_header(head[: end.start()].decode("utf-8").splitlines())
    if unsupported := {"data file", "datafile", "byte skip", "line skip"} & set(header):
        raise UserError(
            f"{path}: expected a file that holds its own data; its header has "
            f"{', '.join(sorted(unsupported))}. Save it as one .seg.nrrd."
        )
    return header, end.end()


def _segments(path: Path, header: Mapping[str, Any]) -> list[_Named]:
    """Return the segments in the order of their numbers.

    Files of old versions have no values: each segment is a layer of its own.

    Raises:
        UserError: a value or a layer is no number, or too large.
    """
    numbers = sorted(
        {int(found[1]) for key in header if (found := re.match(r"^Segment(\d+)_", str(key)))}
    )
    layers = _layer_count(header)
    segments = []
    for place, number in enumerate(numbers):
        about = {
            key: str(header[f"Segment{number}_{key}"])
            for key in ("Name", "ID", "Layer", "LabelValue")
            if f"Segment{number}_{key}" in header
        }
        value = int(about.get("LabelValue", 1))
        layer = int(about.get("Layer", 0 if "LabelValue" in about else place))
        if not (0 < value <= _MOST_VALUE and 0 <= layer < layers):
            raise UserError(
                f"{path}: expected values from 1 to {_MOST_VALUE} and layers below {layers}; "
                f"segment {number} has value {value}, layer {layer}."
            )
        segments.append(_Named(about.get("Name", about.get("ID", "")), layer, value))
    return segments


def _layer_count(header: Mapping[str, Any]) -> int:
    sizes = header["sizes"]
    return int(sizes[0]) if len(sizes) == 4 else 1


def _layers(path: Path, header: Mapping[str, Any], start: int) -> np.ndarray:
    """Return the values, `[layers, *S]`.

    Raises:
        UserError: the sizes are absurd, the values are no whole numbers, or data is missing.
    """
    sizes = tuple(int(size) for size in header["sizes"])
    if len(sizes) not in (3, 4) or (len(sizes) == 4 and _is_space(header, 0)):
        raise UserError(
            f"{path}: expected 3 axes, or 4 of which the first are the layers; it has the sizes "
            f"{sizes}."
        )
    need_size(path, sizes)
    most = math.prod(sizes) * 8 + 1  # in bytes, for the largest type
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(most + 2**16)
    encoding = str(header.get("encoding")).lower()
    if encoding in ("gzip", "gz", "bzip2", "bz2"):
        unpacker: Any = (
            zlib.decompressobj(zlib.MAX_WBITS | 16)
            if encoding.startswith("g")
            else bz2.BZ2Decompressor()
        )
        content = unpacker.decompress(content, most)
        if not unpacker.eof:
            raise UserError(f"{path}: its data is cut, or longer than its header says.")
    elif encoding != "raw":
        raise UserError(
            f"{path}: expected raw or compressed data; it is {encoding}. Save it again."
        )
    values = nrrd.read_data({**header, "encoding": "raw"}, io.BytesIO(content))
    if values.dtype.kind not in "iu" or (values.size and values.min() < 0):
        raise UserError(f"{path}: expected whole numbers from 0; it holds {values.dtype}.")
    if values.size and values.max() > _MOST_VALUE:
        raise UserError(f"{path}: expected values up to {_MOST_VALUE}; it holds {values.max()}.")
    return np.asarray(values if values.ndim == 4 else values[None]).astype(np.uint16)


def _is_space(header: Mapping[str, Any], axis: int) -> bool:
    directions = np.asarray(header.get("space directions", np.zeros((0, 3))), float)
    return axis < len(directions) and bool(np.isfinite(directions[axis]).all())


def _affine(path: Path, header: Mapping[str, Any]) -> np.ndarray:
    """Return the affine from voxels to millimetres (RAS+).

    Raises:
        UserError: the header has none, or one that cannot be inverted.
    """
    to_ras = _TO_RAS.get(str(header.get("space", "")).lower())
    directions = np.asarray(header.get("space directions", ()), float)[-3:]
    origin = np.asarray(header.get("space origin", ()), float)
    if to_ras is None or directions.shape != (3, 3) or origin.shape != (3,):
        raise UserError(
            f"{path}: expected a place in space (space, space directions, space origin); its "
            "header lacks it. Save it with 3D Slicer."
        )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions.T, origin
    if not invertible(affine):
        raise UserError(f"{path}: its axes cannot be inverted: {affine.tolist()}.")
    return np.asarray(to_ras @ affine)


def _offset(
    path: Path, header: Mapping[str, Any], covered: tuple[int, ...], shape: tuple[int, ...]
) -> list[int]:
    """Return the first voxel of the image that the file covers.

    Raises:
        UserError: it is not given, and the sizes differ; or it lies outside the image.
    """
    given = str(header.get("Segmentation_ReferenceImageExtentOffset", "")).split()
    offset = [int(number) for number in given] or [0, 0, 0]
    whole = [first + side for first, side in zip(offset, covered, strict=True)]
    if min(offset) < 0 or any(end > side for end, side in zip(whole, shape, strict=True)):
        raise UserError(
            f"{path}: expected a segmentation within the shape of its image, {shape}, whose format "
            f"knows no place in space; it covers {covered} from {tuple(offset)}."
        )
    if not given and covered != shape:
        raise UserError(
            f"{path}: expected the shape of its image, {shape}; it is {covered}, and nothing says "
            "where it lies."
        )
    return offset


def _sampled(values: np.ndarray, to_file: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the value of the nearest voxel at each voxel of the image.

    Args:
        values: values of the file, `[*S]`.
        to_file: affine from the image's voxels to the file's, `[4, 4]`.
        shape: shape of the image.

    Returns:
        Values `[*shape]`, 0 outside the file; `None` if no voxel is inside.
    """
    turn, size = to_file[:3, :3], np.array(values.shape)
    moves = np.abs(turn) * np.array(shape) > _CLOSE
    if (moves.sum(axis=0) <= 1).all() and (moves.sum(axis=1) == 1).all():
        # The axes are parallel, so the voxels are looked up axis by axis.
        order = moves.argmax(axis=1)
        places = [
            _nearest(turn[i, axis] * np.arange(shape[axis]) + to_file[i, 3])
            for i, axis in enumerate(order)
        ]
        inside = [(place >= 0) & (place < side) for place, side in zip(places, size, strict=True)]
        if not all(part.any() for part in inside):
            return None
        sampled = np.zeros(tuple(shape[axis] for axis in order), np.uint16)
        known = [place[part] for place, part in zip(places, inside, strict=True)]
        sampled[np.ix_(*inside)] = values[np.ix_(*known)]
        return sampled.transpose(np.argsort(order))
    sampled, covered = np.zeros(shape, np.uint16), False
    rest = np.indices(shape[1:], dtype=np.float64).reshape(2, -1)
    partial = turn[:, 1:] @ rest + to_file[:3, 3:]
    for row in range(shape[0]):
        place = _nearest(partial + turn[:, :1] * row)
        within = ((place >= 0) & (place < size[:, None])).all(axis=0)
        if within.any():
            covered = True
            x, y, z = place[:, within]
            sampled[row].reshape(-1)[within] = values[x, y, z]
    return sampled if covered else None


def _nearest(places: np.ndarray) -> np.ndarray:
    """Round to the nearest voxel; half way between two, which headers say with noise, the upper."""
    return np.floor(np.clip(places, -1e9, 1e9) + 0.5 + _CLOSE / 10).astype(np.int64)
