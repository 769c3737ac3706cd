"""TIFF pictures and stacks, tiled or in strips, read and written with tifffile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cdal.imaging.formats.picture import turned, visible
from cdal.imaging.formats.tiff_page import (
    colours_of,
    has_alpha,
    has_few_bits,
    inverted,
    largest_series,
    need_content,
    orientation,
    resolution_tags,
)
from cdal.imaging.formats.tiff_rows import open_rows
from cdal.imaging.image import Image, need_size
from cdal.imaging.palette import PALETTE, label_of_palette
from cdal.imaging.rows import Kept
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

__all__ = ["open_rows", "read", "write", "write_tiled"]

_PAGES = "ZIQTR"
"""Names that tifffile gives to page axes."""

_TILE = 256


def read(path: Path, as_label: bool) -> Image:
    """Read one page as a picture `[C, H, W]`, several as a volume `[C, H, W, pages]`.

    The volume has no geometry.
    """
    with tifffile.TiffFile(path) as file:
        series = largest_series(file)
        keyframe: Any = series.keyframe
        need_size(path, series.shape, 2 * np.dtype(series.dtype).itemsize + 8)
        need_content(path, series)
        if keyframe.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB):
            raise UserError(
                f"{path}: expected gray or red, green and blue; its colours are "
                f"{keyframe.photometric.name}. Convert it."
            )
        array = series.asarray()
        axes = series.axes
        alpha, header, turn = has_alpha(keyframe), resolution_tags(keyframe), orientation(keyframe)
        colours = None
        if keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
            colours = colours_of(keyframe)
        white_is_zero = keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    stored = array.dtype
    palette: dict[int, int] = {}
    doubts: tuple[str, ...] = ()
    if white_is_zero and as_label and not has_few_bits(keyframe):
        doubts = (
            "its TIFF says that 0 is white, so that viewers show it inverted; its numbers were "
            "taken as they are stored.",
        )
    elif white_is_zero:
        array = inverted(array, keyframe.bitspersample)
    if colours is not None:
        numbers = array.shape
        if as_label:
            array, palette, doubts = label_of_palette(array, colours)
        else:
            array = colours[array]
        axes += "S" * (array.ndim - len(numbers))
        stored = array.dtype
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: expected whole or floating-point numbers; it holds {array.dtype}. Convert it "
            "first."
        )
    array = _in_order(path, array, axes)
    if alpha and "S" in axes and array.shape[-1] > 1:
        array = visible(array) if as_label and array.ndim == 3 else array[..., :-1]
    array = np.ascontiguousarray(np.moveaxis(turned(array, turn), -1, 0), np.float32)
    return Image(array, None, path.suffix.lower(), header, stored, palette, doubts)


def _in_order(path: Path, array: np.ndarray, axes: str) -> np.ndarray:
    """Return the numbers as `[H, W, C]` or `[H, W, pages, C]`.

    Raises:
        UserError: there are other axes.
    """
    keep = [
        i
        for i, (axis, length) in enumerate(zip(axes, array.shape, strict=True))
        if length > 1 or axis in "YX"
    ]
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    pages = [axis for axis in axes if axis in _PAGES]
    channels = [axis for axis in axes if axis in "SC"]
    if len(pages) > 1 or len(channels) > 1 or len(pages) + len(channels) + 2 != len(axes):
        raise UserError(
            f"{path}: expected a picture or a stack of pages, with channels if any; its axes are "
            f"{axes}, {array.shape}."
        )
    array = array.transpose([axes.index(axis) for axis in ["Y", "X", *pages, *channels]])
    return array if channels else array[..., None]


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write a picture or a volume; each slice of a volume is a page.

    `[N, H, W]` gives N pages, `[N, H, W, pages]` gives N times as many pages as the volume has.
    """
    if len(like.shape) == 3:
        array = np.moveaxis(array, -1, -3)
        array = array.reshape(-1, *array.shape[-2:])
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary, array, **appearance(like.header, labels and array.dtype == np.uint8)
        )


def appearance(header: Any, coloured: bool) -> dict[str, Any]:
    """Return tifffile's options for a result.

    Results are compressed and have the input's pixel size.

    Args:
        header: tags from `resolution_tags`.
        coloured: whether to add a palette.
    """
    options: dict[str, Any] = {"compression": "zlib", "metadata": None, "photometric": "minisblack"}
    if coloured:
        options |= {"photometric": "palette", "colormap": PALETTE.T.astype(np.uint16) * 257}
    if not isinstance(header, dict) or not {"XResolution", "YResolution"} <= set(header):
        return options
    return options | {
        "resolution": (header["XResolution"], header["YResolution"]),
        "resolutionunit": int(header.get("ResolutionUnit", 1)),
    }


def write_tiled(path: Path, kept: Kept, like: Image, labels: bool) -> None:
    """Write a tiled, compressed TIFF with only a few rows in memory at a time.

    Args:
        path: path of the file.
        kept: a picture `[H, W]`, or N pictures `[N, H, W]` that become pages.
        like: image that gives the pixel size.
        labels: whether the numbers are classes; classes get a palette if they are uint8.
    """
    lead, height, (width,) = kept.lead, kept.count, kept.rest
    kind = np.dtype(kept.kind)

    def tiles() -> Iterator[np.ndarray]:
        for page in np.ndindex(*lead):
            for top in range(0, height, _TILE):
                band = kept.rows(top, min(height, top + _TILE))[page]
                for left in range(0, width, _TILE):
                    tile = np.zeros((_TILE, _TILE), kind)
                    part = band[:, left : left + _TILE]
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile

    big = math.prod((*lead, height, width)) * kind.itemsize > 2**31
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=big) as writer:
        writer.write(
            tiles(),
            shape=(*lead, height, width),
            dtype=kind,
            tile=(_TILE, _TILE),
            **appearance(like.header, labels and kind == np.uint8),
        )
