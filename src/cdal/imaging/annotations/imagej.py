"""ImageJ regions: one in a `.roi`, several in a `.zip`."""

from __future__ import annotations

import logging
import math
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import roifile

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.polygons import ellipse, fill, need_points, nothing, rectangle
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

MOST_BYTES = 2**28
"""Largest sum of the regions' sizes, in bytes after decompression."""

_NUMBERED = re.compile(r"^\d+(-\d+)*$")
"""Name that ImageJ gives to a region that nobody named: its place in the picture."""

_COPY = re.compile(r"-\d+$")
"""End that ImageJ adds to a name that another region has already."""


class _Refusal(logging.Handler):
    """Turns roifile's warnings, which are written about damaged regions, into errors."""

    def emit(self, record: logging.LogRecord) -> None:
        raise UserError(f"a region is damaged: {record.getMessage()}. Save it again with ImageJ.")


def recognises(path: Path) -> bool:
    """Whether a file is a region, or an archive of regions."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] != b"PK":
        return start == b"Iout"
    try:
        names = _members(path)
    except (OSError, LookupError, ValueError, RuntimeError, zipfile.BadZipFile):
        return True  # reading it says what is wrong
    return not names or any(name.lower().endswith(".roi") for name in names)


def class_names(path: Path) -> Iterator[str]:
    """Yield the class of each region that has one."""
    return (name for region in _regions(path) if (name := _class_of(region)))


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the regions of a picture, or of the slices of a stack.

    The class is the group, else the name, without the number that ImageJ adds to names that occur
    twice; regions that only have ImageJ's own number have none. Points and lines cover no pixel.

    Raises:
        UserError: a region is damaged, or its slice is not in the stack.
    """
    for region in _regions(path):
        segment = _segment(region, (like.shape[0], like.shape[1]))
        yield segment if len(like.shape) == 2 else _on_slice(segment, region, like)


def _members(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [info.filename for info in archive.infolist() if not info.is_dir()]


def _regions(path: Path) -> Iterator[Any]:
    if path.suffix.lower() != ".zip":
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: expected at most {MOST_BYTES / 2**20:.0f} MB.")
        yield _region(path.read_bytes())
        return
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.lower().endswith(".roi")]
        if not members:
            raise UserError(f"{path}: expected regions (NAME.roi); the archive holds none.")
        if sum(info.file_size for info in members) > MOST_BYTES:
            raise UserError(f"{path}: expected at most {MOST_BYTES / 2**20:.0f} MB of regions.")
        for info in members:
            region = _region(archive.read(info))
            region.name = region.name or Path(info.filename).stem
            yield region


def _need_whole(content: bytes) -> None:
    """Refuse a region that ends before its second header or its name, which say its class.

    roifile reads such regions without them. A region begins with 64 bytes, the last four of which
    tell where the second header lies; in that, from byte 16, place and length of the name.
    """
    size, second, end = len(content), 0, 64
    if size >= end:
        (second,) = struct.unpack_from(">I", content, 60)
        end = second + 52 if second else end
    if second and size >= end:
        place, length = struct.unpack_from(">II", content, second + 16)
        end = max(end, place + 2 * length)
    if size < end:
        raise UserError(f"a region is damaged: it ends early ({size} bytes). Save it again.")


def _region(content: bytes) -> Any:
    _need_whole(content)
    logger, refusal = logging.getLogger("roifile"), _Refusal()
    logger.addHandler(refusal)
    try:
        return roifile.ImagejRoi.frombytes(content)
    finally:
        logger.removeHandler(refusal)


def _class_of(region: Any) -> str:
    if region.group:
        return f"group {region.group}"
    name = str(region.name or "")
    return "" if _NUMBERED.match(name) else _COPY.sub("", name)


def _segment(region: Any, shape: tuple[int, int]) -> Segment:
    """Return the segment of a region on a picture or slice of a shape."""
    name, kind = _class_of(region), region.roitype
    types = roifile.ROI_TYPE
    if kind in (types.POLYGON, types.FREEHAND, types.TRACED):
        if region.subtype == roifile.ROI_SUBTYPE.ELLIPSE:
            return _turned_ellipse(name, region, shape)
        return fill(name, [need_points(region.coordinates())], shape)
    if kind == types.RECT and region.composite:
        return fill(name, [need_points(ring) for ring in region.coordinates(multi=True)], shape)
    if kind in (types.RECT, types.OVAL):
        left, top, width, height = (
            (region.xd, region.yd, region.widthd, region.heightd)
            if region.subpixelrect
            else (region.left, region.top, region.right - region.left, region.bottom - region.top)
        )
        if kind == types.OVAL:
            centre = (left + width / 2, top + height / 2)
            return ellipse(name, centre, (width / 2, height / 2), shape)
        if region.rounded_rect_arc_size > 0:
            raise UserError(
                f"the region {region.name} is a rectangle with round corners, which is not "
                "read. Convert it to a polygon (Edit > Selection > Convert to Polygon)."
            )
        return rectangle(name, np.array([[left, top], [left + width, top + height]]), shape)
    return nothing(name, 2)


def _turned_ellipse(name: str, region: Any, shape: tuple[int, int]) -> Segment:
    """Return an ellipse that is given by the ends of its long axis and its aspect ratio."""
    x0, y0, x1, y1 = region.x1, region.y1, region.x2, region.y2
    # The ratio is a number of 32 bits in the place of the arrow's style and the corners' radius.
    (ratio,) = struct.unpack(
        ">f",
        struct.pack(
            ">BBh",
            region.arrow_style_or_aspect_ratio,
            region.arrow_head_size,
            region.rounded_rect_arc_size,
        ),
    )
    radius = math.hypot(x1 - x0, y1 - y0) / 2
    turn = math.degrees(math.atan2(y1 - y0, x1 - x0))
    return ellipse(name, ((x0 + x1) / 2, (y0 + y1) / 2), (radius, radius * ratio), shape, turn)


def _on_slice(segment: Segment, region: Any, like: Image) -> Segment:
    """Put a segment on its slice of a stack, whose last axis are the slices."""
    if like.affine is not None:
        raise UserError(
            "regions of ImageJ lie on pictures or on the pages of a TIFF; the image is a volume in "
            "space. Give a label image or a .seg.nrrd."
        )
    position = region.position or region.z_position
    if not 1 <= position <= like.shape[2]:
        raise UserError(
            f"expected regions on the slices 1 to {like.shape[2]}; {region.name} lies on "
            f"{position or 'all'}."
        )
    box = (*segment.box, slice(position - 1, position))
    return Segment(segment.name, box, segment.inside[..., None])
