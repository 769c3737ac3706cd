"""TIFF pictures and stacks, by tifffile: 8 and 16 bit, tiled or not, several pages as a volume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cdal.data.formats.picture import channels_first
from cdal.data.image import Image, need_size
from cdal.data.palette import PALETTE
from cdal.errors import UserError
from cdal.files import replacing

_PAGES = "ZIQTR"
"""Names that tifffile gives to an axis of pages."""

_RESOLUTION = ("XResolution", "YResolution", "ResolutionUnit")


def read_tiff(path: Path, as_label: bool) -> Image:
    """A picture `[C, H, W]`; or, of several pages, a volume `[C, H, W, pages]`, which has no place in millimetres."""
    with tifffile.TiffFile(path) as file:
        series = largest_series(file)
        need_size(path, series.shape)
        first: Any = series.keyframe
        array = series.asarray()
        axes = series.axes
        if first.photometric == tifffile.PHOTOMETRIC.PALETTE and not as_label:
            colours = np.moveaxis(np.asarray(first.colormap), 0, -1)[array]  # 16 bits a colour
            array, axes = (colours >> 8).astype(np.uint8), axes + "S"
        if first.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB):
            raise UserError(f"{path}: expected gray or red, green and blue; its colours are {first.photometric.name}. Convert it.")
        if first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = upside_down(array, first.bitspersample)
        alpha, header = has_alpha(first), resolution_tags(first)
    stored = array.dtype
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path}: expected whole or floating-point numbers; it holds {array.dtype}. Convert it first.")
    keep = [i for i, (axis, length) in enumerate(zip(axes, array.shape, strict=True)) if length > 1 or axis in "YX"]
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    pages = [axis for axis in axes if axis in _PAGES]
    channels = [axis for axis in axes if axis in "SC"]
    if len(pages) > 1 or len(channels) > 1 or len(pages) + len(channels) + 2 != len(axes):
        raise UserError(
            f"{path}: expected a picture or a stack of pages, with channels if any; its axes are {axes}, {array.shape}."
        )
    order = ["Y", "X", *pages, *channels]
    array = array.transpose([axes.index(axis) for axis in order])
    array = array[..., :-1] if alpha and "S" in channels else array
    array = channels_first(array) if channels else array[None].astype(np.float32)
    return Image(array, None, path.suffix.lower(), header, stored)


def write_tiff(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Pages are a volume's slices, or the N pictures of `[N, H, W]`; `[N, H, W, pages]` has N times as many pages."""
    if len(like.shape) == 3:
        array = np.moveaxis(array, -1, -3)
        array = array.reshape(-1, *array.shape[-2:])
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, array, **appearance(like.header, labels and array.dtype == np.uint8))


def largest_series(file: tifffile.TiffFile) -> Any:
    """The pages that make the image; a thumbnail and a pyramid's further levels are left out."""
    if not file.series:
        raise ValueError("it holds no page")
    return max(file.series, key=lambda series: math.prod(series.shape))


def upside_down(array: np.ndarray, bits: Any) -> np.ndarray:
    """Numbers of which 0 is white, turned so that 0 is black."""
    if array.dtype.kind != "u":
        return -array
    top = 2 ** (bits if isinstance(bits, int) else 8 * array.dtype.itemsize) - 1
    return (top - array).astype(array.dtype)


def has_alpha(page: Any) -> bool:
    """Whether the last sample of a page's pixels is their opacity."""
    return any(extra in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA) for extra in page.extrasamples)


def resolution_tags(page: Any) -> dict[str, Any]:
    """What a page says of its pixels' size."""
    return {name: page.tags[name].value for name in _RESOLUTION if name in page.tags}


def appearance(header: Any, coloured: bool) -> dict[str, Any]:
    """Tifffile's options for a result: compressed, with a palette if it is to be coloured, its pixels as large as the input's."""
    options: dict[str, Any] = {"compression": "zlib", "metadata": None, "photometric": "minisblack"}
    if coloured:
        options |= {"photometric": "palette", "colormap": PALETTE.T.astype(np.uint16) * 257}
    if not isinstance(header, dict) or not {"XResolution", "YResolution"} <= set(header):
        return options
    return options | {
        "resolution": (header["XResolution"], header["YResolution"]),
        "resolutionunit": int(header.get("ResolutionUnit", 1)),
    }
