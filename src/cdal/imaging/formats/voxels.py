"""The numbers of NRRD and MetaImage files, and their place in space.

The headers of both are read here in Python, and not by ITK: its readers trust them, so that a
damaged one can end the process, and a hostile one can name any file of the disk.
"""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cdal.imaging.image import LPS, Image, invertible, need_regular, need_size, result_suffix
from cdal.runtime.errors import UserError

LEVEL = 2
"""Level of the compression of what is written, ITK's own; masks are hardly smaller with more."""

_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???")
_BLOCK = 2**20
_BYTES_OF_TEXT = 40
"""Longest number of a text, with the space behind it."""

MOST_TIMES_SMALLER = 1100
"""A little more than gzip can compress by."""


@dataclass(frozen=True)
class Stored:
    """The numbers of a file as its header describes them.

    Attributes:
        path: path of the file with the header, for messages.
        data: path of the file with the numbers.
        start: first byte of the numbers in `data`.
        encoding: `raw`, `gzip` (or zlib), `bzip2` or `text`.
        kind: type of the numbers.
        shape: numbers along each axis, the fastest first.
    """

    path: Path
    data: Path
    start: int
    encoding: str
    kind: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def each(self) -> int:
        """Bytes of memory that reading a number takes."""
        return 4 + self.kind.itemsize + (3 * _BYTES_OF_TEXT if self.encoding == "text" else 0)

    def read(self) -> np.ndarray:
        """Read the numbers, `[*shape]`.

        Raises:
            UserError: there are too many for the memory, or fewer than the header promises.
        """
        need_size(self.path, self.shape, self.each)
        count = math.prod(self.shape)
        size = count * self.kind.itemsize
        held = self.data.stat().st_size - self.start
        if size > held * {"raw": 1, "gzip": MOST_TIMES_SMALLER}.get(self.encoding, math.inf):
            self._too_short(held, size)
        with self.data.open("rb") as file:
            file.seek(self.start)
            if self.encoding == "raw":
                numbers = np.fromfile(file, self.kind, count)
            elif self.encoding == "text":
                text = file.read(_BYTES_OF_TEXT * count).decode("ascii")
                numbers = np.array(text.split()[:count], np.float64).astype(self.kind)
            else:
                numbers = np.frombuffer(self._inflated(file, size), self.kind)
        if len(numbers) < count:
            self._too_short(len(numbers) * self.kind.itemsize, size)
        return numbers.reshape(self.shape, order="F")

    def _inflated(self, file: BinaryIO, size: int) -> np.ndarray:
        """Decompress no more than the header promises."""
        inflated = np.empty(size, np.uint8)
        done = 0
        if self.encoding == "bzip2":
            unzip = bz2.BZ2Decompressor()
            while done < size and not unzip.eof:
                block = file.read(_BLOCK) if unzip.needs_input else b""
                if unzip.needs_input and not block:
                    break
                part = unzip.decompress(block, min(_BLOCK, size - done))
                inflated[done : done + len(part)] = np.frombuffer(part, np.uint8)
                done += len(part)
        else:
            inflate, rest = zlib.decompressobj(zlib.MAX_WBITS | 32), b""
            while done < size and not inflate.eof:
                rest = rest or file.read(_BLOCK)
                if not rest:
                    break
                part = inflate.decompress(rest, size - done)
                inflated[done : done + len(part)] = np.frombuffer(part, np.uint8)
                done, rest = done + len(part), inflate.unconsumed_tail
        if done < size:
            self._too_short(done, size)
        return inflated

    def _too_short(self, held: int, size: int) -> None:
        raise UserError(
            f"{self.path}: its header promises {size} bytes of numbers; {self.data.name} holds "
            f"{max(0, held)}. Is the file complete?"
        )


def beside(path: Path, name: str) -> Path:
    """Return the data file that a header names, which must lie beside the header.

    Raises:
        UserError: the name stands for several files, leads elsewhere, or is no file.
    """
    if name.startswith("LIST") or "%" in name:
        raise UserError(
            f"{path}: expected the numbers in one file; they are in several ({name[:80]}). Save "
            "them as one."
        )
    data = path.parent / name
    if Path(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise UserError(
            f"{path}: expected the name of a file beside it for its numbers; its header says "
            f"{name[:80]!r}. Put that file beside the header, and its plain name into the header."
        )
    need_regular(data)
    if data.resolve().parent != path.parent.resolve():
        raise UserError(
            f"{path}: its numbers are in {name}, which is a link to another folder. Copy the file "
            "beside the header."
        )
    return data


def image_of(
    stored: Stored,
    channel_axis: int | None,
    fourth_axis: int,
    axes: np.ndarray,
    origin: np.ndarray,
) -> Image:
    """Read the image that a header describes.

    Args:
        stored: the numbers.
        channel_axis: axis of the channels; `None` for one channel.
        fourth_axis: number of channels that a fourth axis in space holds, if the caller knows it.
        axes: steps along each axis of a voxel in millimetres (LPS+), as columns, `[D, D]`.
        origin: place of the first voxel in millimetres (LPS+), `[D]`.

    Raises:
        UserError: it is neither a picture nor a volume, or its axes cannot be inverted.
    """
    path = stored.path
    shape = [n for i, n in enumerate(stored.shape) if i != channel_axis]
    need_size(path, stored.shape, stored.each)
    more = [n for n in shape[3:] if n > 1]
    if len(more) == 1 and channel_axis is None and more[0] == fourth_axis:
        channel_axis = stored.shape.index(more[0], 3)
    elif more or len(shape) < 2:
        raise UserError(not_a_volume(path, tuple(shape)))
    dims, suffix = min(3, len(shape)), result_suffix(path.suffix.lower())
    affine = np.eye(4)
    affine[:dims, :dims], affine[:dims, 3] = axes[:dims, :dims], origin[:dims]
    if not invertible(affine):
        raise UserError(
            f"{path}: its axes cannot be inverted, so its voxels have no place in space: "
            f"{affine.tolist()}."
        )
    array = stored.read()
    channels = array[None] if channel_axis is None else np.moveaxis(array, channel_axis, 0)
    channels = channels.reshape(len(channels), *shape[:dims])
    if dims == 2:  # the axes of a picture are row and column
        channels = channels.transpose(0, 2, 1)
    return Image(
        np.ascontiguousarray(channels, np.float32),
        LPS @ affine if dims == 3 else None,
        suffix,
        affine,
        stored.kind.newbyteorder("="),
    )


def need_millimetres(path: Path, units: Sequence[str]) -> None:
    """Refuse lengths in another unit than millimetres.

    Raises:
        UserError: one of the units is another.
    """
    others = {unit for unit in units if unit.strip().lower() not in _MILLIMETRES}
    if others:
        raise UserError(
            f"{path}: expected lengths in millimetres; the unit in its header is "
            f"{', '.join(sorted(others))[:80]}. Convert its spacing and origin to millimetres."
        )


def not_a_volume(path: Path, shape: Sequence[int]) -> str:
    """Return the error message for a file whose axes are neither a picture's nor a volume's."""
    message = f"{path}: expected a picture or a volume of 3 axes; it has {len(shape)} ({shape})."
    if len(shape) < 4:
        return f"{message} Add an axis of length 1."
    return (
        f"{message} If the fourth is time, give one volume of the series. If it holds channels, "
        'name them in dataset.json, "channel_names": {"0": "T1", "1": "T2", ...}, or save each '
        "channel as a file: NAME_0000, NAME_0001, ..."
    )


class Placed(NamedTuple):
    """Numbers in the order of a file, and their place in space.

    Attributes:
        numbers: `[*reversed(S)]` or `[*reversed(S), N]`, C-contiguous: the last axis is the
            fastest.
        axes: steps along each axis of a voxel in millimetres (LPS+), as columns, `[D, D]`.
        origin: place of the first voxel in millimetres (LPS+), `[D]`.
        vector: whether the last axis counts the N numbers of a voxel.
    """

    numbers: np.ndarray
    axes: np.ndarray
    origin: np.ndarray
    vector: bool


def placed(array: np.ndarray, like: Image) -> Placed:
    """Put the numbers of a result into the order of a file.

    Args:
        array: `[*S]` or `[N, *S]`; N becomes the length of a vector at each voxel.
        like: image that the result belongs to.
    """
    dims = len(like.shape)
    vector = array.ndim > dims
    if dims == 3:
        array = array.transpose(0, 3, 2, 1) if vector else array.transpose(2, 1, 0)
    affine = like.header
    if affine is None:
        affine = np.eye(4) if like.affine is None else LPS @ like.affine
    return Placed(
        np.ascontiguousarray(np.moveaxis(array, 0, -1) if vector else array),
        affine[:dims, :dims],
        affine[:dims, 3],
        vector,
    )
