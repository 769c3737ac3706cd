"""Layers of a case for the browser: NIfTI of volumes, PNG of pictures, on the image's own grid."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as Pillow

from cdal.evaluation.review.opening import read_mask
from cdal.imaging.formats import read_any
from cdal.imaging.image import Image
from cdal.inference.segmented import MOST_WHOLE
from cdal.runtime.errors import UserError
from cdal.serve.cases import Entry
from cdal.serve.opened import About, Opener, about, files_of_entry, stamp_of
from cdal.serve.refusals import missing
from cdal.serve.stacks import read_stack

LAYERS = ("image", "mask", "probability", "uncertainty", "votes", "reviewed")
"""Kinds of layers."""

ALL = "layers"
"""What a client saves that wants all layers of an image, whatever its size."""

_FAST = 1
"""Level of compression: more costs more time than it saves."""

_PACKED_BYTES = 2**24
"""Bytes up to which intensities are compressed: of more, packing takes longer than sending."""


_START = 352
"""Byte of a NIfTI file at which its voxels begin."""


@dataclass(frozen=True)
class Wanted:
    """Which layer is wanted.

    Attributes:
        kind: one of `LAYERS`.
        number: for the probability, the class, from 1.
        vote: for the votes of a picture, the vote, from 0.
        packed: whether a NIfTI is compressed; labels, and small ones, if `None`.
    """

    kind: str
    number: int = 1
    vote: int = 0
    packed: bool | None = None


@dataclass(frozen=True)
class Layer:
    """A layer as it is sent.

    Attributes:
        content: the bytes.
        media: their media type.
        name: file name.
    """

    content: bytes
    media: str
    name: str


def saved_as_layers(save: Collection[str], image: About, votes: int) -> tuple[str, ...]:
    """What to save, and the layers that are possible for an image in the place of `layers`.

    Args:
        save: what was asked for.
        image: the image.
        votes: number of votes.
    """
    whole = image.kind != "slide" and votes * math.prod(image.shape) <= MOST_WHOLE
    kinds = ("mask", "probability", "uncertainty", "votes") if whole else ("mask", "uncertainty")
    return tuple(dict.fromkeys((*(kind for kind in save if kind != ALL), *kinds)))


def path_of(entry: Entry, kind: str, reviewed: Path | None) -> Path:
    """Path of the file that a layer is made from.

    Raises:
        HTTPException: 404, it was not saved.
    """
    path = {"image": entry.inputs[0], "reviewed": reviewed}.get(kind) or entry.file(kind)
    if path is None or not path.exists():
        raise missing(f"The layer {kind} of this case")
    return path


def tag_of(entry: Entry, wanted: Wanted, path: Path) -> str:
    """Checksum of what decides a layer, for `ETag`."""
    stamp = stamp_of(*entry.inputs, path)
    return hashlib.sha256(repr((wanted, stamp)).encode()).hexdigest()[:32]


def layer_of(entry: Entry, wanted: Wanted, path: Path, opener: Opener) -> Layer:
    """Make a layer.

    Args:
        entry: the case.
        wanted: which layer.
        path: the file that it is made from, see `path_of`.
        opener: opens the image, whose grid the layer has.

    Raises:
        HTTPException: 404, the class or vote is not there.
        UserError: a file is missing or damaged, or the image is shown by tiles.
    """
    with opener.open(entry) as rows:
        if about(rows).kind == "slide" or not isinstance(rows, Image):
            raise UserError(
                f"{entry.name} is shown by tiles: it is too large for one picture. Ask for its "
                "tiles and its objects."
            )
        array = _array(entry, wanted, path, rows, opener)
    if len(rows.shape) == 3:
        small = array.dtype == np.uint8 or array.nbytes <= _PACKED_BYTES
        packed = small if wanted.packed is None else wanted.packed
        name = f"{entry.stem}_{wanted.kind}{'.nii.gz' if packed else '.nii'}"
        return Layer(nifti_of(array, rows, packed), "application/octet-stream", name)
    return Layer(png_of(array), "image/png", f"{entry.stem}_{wanted.kind}.png")


def _array(entry: Entry, wanted: Wanted, path: Path, image: Image, opener: Opener) -> np.ndarray:
    """Numbers of a layer: `[*S]`, of volumes also `[*S, N]`, and of pictures `[H, W, 3]` uint8."""
    files = files_of_entry(entry, opener.channels)
    if wanted.kind == "image":
        return _intensities(image)
    if wanted.kind == "mask":
        return read_mask(files, image)
    if wanted.kind == "reviewed":
        return read_mask(replace(files, mask=path), image)
    planar = len(image.shape) == 2
    if wanted.kind == "votes":
        stack = read_stack(path, _votes(entry, path, image), image.shape, labels=True)
        if not planar:
            return np.moveaxis(stack, 0, -1)
        if not 0 <= wanted.vote < len(stack):
            raise missing(f"Vote {wanted.vote} (there are 0 to {len(stack) - 1})")
        return stack[wanted.vote]
    values: np.ndarray
    if wanted.kind == "uncertainty":
        values = read_stack(path, 1, image.shape, labels=False)[0]
    else:
        stack = read_stack(path, len(files.classes), image.shape, labels=False)
        if not 1 <= wanted.number <= len(stack):
            raise missing(f"Class {wanted.number} (there are 1 to {len(stack)})")
        values = stack[wanted.number - 1]
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8) if planar else values


def _votes(entry: Entry, path: Path, image: Image) -> int:
    """Number of votes in a file; the record of a folder says it, where it is of our time."""
    count = None if entry.found is None else entry.found.votes
    if count is None:
        size = read_any(path).array.size
        count = size // int(np.prod(image.shape))
    return max(1, count)


def _intensities(image: Image) -> np.ndarray:
    """The image for the browser: as it is stored, or in 8 bits if it is a picture."""
    if len(image.shape) == 3:
        first = image.array[0] if len(image.array) == 1 else np.moveaxis(image.array, 0, -1)
        return _narrow(first, image.stored)
    shown = image.array[:3] if len(image.array) >= 3 else image.array[:1]
    if image.stored != np.uint8:
        low, high = np.percentile(shown, [0.5, 99.5])
        shown = (shown - low) / max(high - low, 1e-9) * 255
    pixels = np.moveaxis(np.clip(np.round(shown), 0, 255).astype(np.uint8), 0, -1)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _narrow(array: np.ndarray, stored: np.dtype[np.generic]) -> np.ndarray:
    """Intensities in the smallest type that holds them exactly, of those that browsers know."""
    if stored.kind in "iu":
        for kind in (np.uint8, np.int16, np.int32):
            about_kind = np.iinfo(kind)
            if about_kind.min <= array.min() and array.max() <= about_kind.max:
                narrow = array.astype(kind)
                return narrow if (narrow == array).all() else array
    return array


def nifti_of(array: np.ndarray, image: Image, packed: bool = True) -> bytes:
    """A volume `[*S]` or `[*S, N]` as NIfTI, with the place in space of an image."""
    affine = np.eye(4) if image.affine is None else image.affine
    header = nib.Nifti1Image(np.broadcast_to(array[:1, :1, :1], array.shape), affine).header
    header.set_data_dtype(array.dtype)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["vox_offset"], header["magic"] = _START, b"n+1"
    head = bytes(header.binaryblock).ljust(_START, b"\0")
    content = head + _first_axis_fastest(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return gzip.compress(content, _FAST, mtime=0) if packed else content


def _first_axis_fastest(array: np.ndarray) -> bytes:
    """The numbers `[*S]` or `[*S, N]` in the order of NIfTI.

    A plane at a time stays in the processor's cache: that is nine times as fast as all at once.
    """
    frames = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    turned = np.empty((len(frames), *array.shape[2::-1]), array.dtype)
    for frame, out in zip(frames, turned, strict=True):
        for row in range(array.shape[1]):
            out[:, row] = frame[:, row].T
    return turned.tobytes()


def png_of(array: np.ndarray) -> bytes:
    """A picture `[H, W]` or `[H, W, 3]` uint8 as PNG."""
    stream = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(array)).save(stream, format="PNG", compress_level=_FAST)
    return stream.getvalue()
