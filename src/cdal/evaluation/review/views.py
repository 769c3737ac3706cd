"""Small pictures of a case: the image with the outlines of its classes, and its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from nibabel.orientations import io_orientation
from PIL import Image as Pillow

from cdal.evaluation.review.opening import Files, need_shape, open_files, read_mask
from cdal.imaging.formats import read_any
from cdal.imaging.grid import resized
from cdal.imaging.image import Image
from cdal.imaging.open import open_image, open_mask
from cdal.imaging.overlay import outlined
from cdal.imaging.reduce import reduced
from cdal.imaging.rows import Rows

SIDE = 200
"""Longer side of a picture in pixels."""

TOP = 0.5
"""Uncertainty from which on a map is brightest; the largest possible one is 0.71."""

_GAP = 4
_PLANES = ("sagittal", "coronal", "axial")
_MUCH = 1.2
"""How many times as thick as wide voxels are, if the image was taken in slices."""


@dataclass(frozen=True)
class _Plane:
    """A picture, or a slice of a volume.

    Attributes:
        image: intensities `[C, h, w]`.
        label: classes `[h, w]`; 0 if no mask was saved.
        spread: uncertainty `[h, w]`, if it was saved.
        caption: what is shown, in words.
    """

    image: Image
    label: np.ndarray
    spread: np.ndarray | None
    caption: str


def draw_view(files: Files) -> tuple[Pillow.Image, str]:
    """Draw the image with its outlines and, beside it, the uncertainty if it was saved.

    Of a volume the slice with the largest segmented area is shown, as radiologists see it: the
    patient's right is on the left. Slices lie across the axis with the thickest voxels; they are
    axial if none is much thicker. Sides have the lengths that they have in millimetres.

    Args:
        files: the files.

    Returns:
        The picture, and a caption that says what it shows.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    with open_files(files) as rows:
        plane = _of_image(rows, files) if isinstance(rows, Image) else _of_rows(rows, files)
    pictures = [outlined(plane.image, plane.label)]
    if plane.spread is not None:
        pictures.append(Pillow.fromarray(_map(plane.spread)))
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    joined = Pillow.new("RGB", (width, pictures[0].height), (128, 128, 128))
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width + _GAP
    return joined, plane.caption


def _of_rows(rows: Rows, files: Files) -> _Plane:
    """A large picture, of which never more than some rows are in memory."""
    size = _size(rows.shape, (1.0, 1.0))
    label, spread = np.zeros(size, np.uint8), None
    if files.mask is not None:
        with open_mask(files.mask) as mask:
            need_shape(files.mask, mask.shape, rows.shape)
            label = reduced(mask, size, nearest=True)[0].astype(np.uint8)
    if files.uncertainty is not None:
        with open_image(files.uncertainty) as values:
            need_shape(files.uncertainty, values.shape, rows.shape)
            spread = reduced(values, size)[0]
    small = _shown(reduced(rows, size), planar=True)
    times = max(rows.shape) / SIDE
    return _Plane(
        Image(small, stored=rows.stored), label, spread, f"whole picture, {times:.0f} times smaller"
    )


def _of_image(image: Image, files: Files) -> _Plane:
    label = read_mask(files, image)
    spread = None
    if files.uncertainty is not None:
        values = read_any(files.uncertainty)
        need_shape(files.uncertainty, values.shape, image.shape)
        spread = values.array[0] / (65535 if files.uncertainty.suffix.lower() == ".png" else 1)
    planar = len(image.shape) == 2
    array, spacing, caption = _shown(image.array, planar), image.spacing[:2], "whole picture"
    if not planar:
        axis, order, flips = _slicing(image)
        index, why = _choose(label, spread, axis, files.mask is not None)

        def turned(values: np.ndarray) -> np.ndarray:
            return np.flip(np.take(values, index, axis).transpose(order), flips)

        spacing = tuple(np.delete(image.spacing, axis)[list(order)])
        plane = "slice" if image.affine is None else f"{_PLANES[_world(image)[axis]]} slice"
        caption = f"{plane} {index + 1} of {image.shape[axis]}, {why}"
        array, label = turned(array[0])[None], turned(label)
        spread = None if spread is None else turned(spread)
    size = _size(label.shape, spacing)
    rows, columns = (
        (2 * np.arange(small) + 1) * large // (2 * small)
        for small, large in zip(size, label.shape, strict=True)
    )
    small = Image(resized(array, size))  # its contrast is stretched, as that of any volume
    return _Plane(
        replace(small, stored=image.stored) if planar else small,
        label[rows][:, columns],
        None if spread is None else resized(spread[None], size)[0],
        caption,
    )


def _slicing(image: Image) -> tuple[int, tuple[int, int], tuple[int, ...]]:
    """The axis across which a volume is cut, the order of the others, and those to flip.

    Without a place in space, these are the last axis, the order of the file, and none.
    """
    if image.affine is None:
        return 2, (0, 1), ()
    world, spacing = _world(image), np.array(image.spacing)
    thick = int(spacing.argmax())
    axis = thick if spacing[thick] > _MUCH * np.median(spacing) else world.index(2)
    rest = [other for other in range(3) if other != axis]
    order = sorted(range(2), key=lambda k: -world[rest[k]])
    signs = io_orientation(image.affine)[:, 1]
    flips = tuple(place for place, k in enumerate(order) if signs[rest[k]] > 0)
    return axis, (order[0], order[1]), flips


def _world(image: Image) -> list[int]:
    """The axis in space that is closest to each axis of the image: 0 right, 1 front, 2 up."""
    return [int(axis) for axis in io_orientation(image.affine)[:, 0]]


def _choose(
    label: np.ndarray, spread: np.ndarray | None, axis: int, saved: bool
) -> tuple[int, str]:
    """The index of the slice to show, and why it was chosen."""
    others = tuple(other for other in range(3) if other != axis)
    if (areas := (label > 0).sum(axis=others)).any():
        return int(areas.argmax()), "the one with the largest segmented area"
    nothing = "nothing was segmented" if saved else "no mask was saved"
    if spread is not None and (doubts := spread.sum(axis=others)).any():
        return int(doubts.argmax()), f"the most uncertain one; {nothing}"
    return label.shape[axis] // 2, f"the middle one; {nothing}"


def _shown(array: np.ndarray, planar: bool) -> np.ndarray:
    """Colours of a picture, and of everything else the first channel, `[3 or 1, *S]`."""
    return array if planar and len(array) == 3 else array[:1]


def _size(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int]:
    """Rows and columns of a picture whose longer side is `SIDE`, with equal scales."""
    lengths = np.array(shape) * np.array(spacing)
    rows, columns = np.maximum(1, np.round(lengths * SIDE / lengths.max())).astype(int)
    return int(rows), int(columns)


def _map(spread: np.ndarray) -> np.ndarray:
    """Colours of an uncertainty `[h, w]`: black is 0, and `TOP` or more is brightest."""
    from matplotlib import colormaps

    return colormaps["magma"](np.clip(spread / TOP, 0, 1), bytes=True)[..., :3]
