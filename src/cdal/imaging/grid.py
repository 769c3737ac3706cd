"""Between an image's own grid and the network's, some rows at a time.

The network's grid: of volumes, axes nearest to right, anterior, superior and the recipe's spacing; of pictures, the recipe's rows
and columns. A volume without a place in space is taken as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from PIL import Image as Pillow
from scipy import ndimage

from cdal.imaging.image import Image
from cdal.imaging.rows import Rows
from cdal.recipes.settings import DataSettings
from cdal.runtime.errors import UserError

MOST_VOXELS = 3e8
"""Voxels of a resampled image; more are the sign of a spacing in the wrong unit."""


class Frame:
    """An image and its place on the network's grid, with the axis along which it is processed first.

    That axis is the rows of a picture. Of a volume it is the axis nearest to right; or the axis across the slices, if the network
    sees slices.

    Args:
        image: on its own grid; volumes are `Image`s, in memory.
        settings: `spacing` of volumes, `resize` of pictures.
        name: of the image, for the message.

    Attributes:
        image: the image.
        shape: of the network's grid, rows first.
        own: the image's own shape with its axes in the same order.
        unchanged: whether the network's grid has the image's own voxels.

    Raises:
        UserError: the image would be larger than `MOST_VOXELS`.
    """

    def __init__(self, image: Rows, settings: DataSettings, name: str = "the image") -> None:
        self.image, self.planar = image, len(image.shape) == 2
        self._axes: tuple[int, ...] = tuple(range(len(image.shape)))
        self._flipped: tuple[int, ...] = ()
        self._ratio: np.ndarray | None = None
        self._resized: np.ndarray | None = None
        self.shape = self.own = image.shape
        if self.planar:
            self.shape = settings.resize or self.shape
        else:
            self._turn(image, settings, name)
        self.unchanged = self.shape == self.own and self._ratio is None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of the network's grid, `[C, stop - start, *rest]` float32, with the intensities as stored."""
        if self.unchanged:
            return self._own_rows(start, stop)
        if self._ratio is None:
            if self._resized is None:  # all of it: a smaller picture depends on every pixel
                self._resized = resized(self.image.rows(0, self.own[0]), (self.shape[0], self.shape[1]))
            return self._resized[:, start:stop]
        low, high = _span(self._ratio[0], start, stop, self.own[0])
        offset = np.array([start * self._ratio[0] - low, 0.0, 0.0])
        return _interpolated(self._own_rows(low, high), self._ratio, offset, (stop - start, *self.shape[1:]))

    def back(self, bands: Iterable[np.ndarray], rows: int | None = None) -> Iterator[np.ndarray]:
        """Values on the network's grid, brought to the image's own voxels by linear interpolation.

        Args:
            bands: `[N, h, *rest]`, rows of the network's grid from the first to the last.
            rows: how many rows to give at a time; as many as can be given if `None`.

        Yields:
            `[N, h, *rest]`, rows of the image from the first to the last, its axes in the order of `own`.
        """
        kept: np.ndarray | None = None
        first, given, length = 0, 0, self.own[0]
        for band in bands:
            kept = band if kept is None else np.concatenate([kept, band], axis=1)
            there = first + kept.shape[1]
            ready = length if there == self.shape[0] else self._ready(there)
            while given < ready and (rows is None or ready == length or ready - given >= rows):
                stop = ready if rows is None else min(ready, given + rows)
                yield self._back(kept, first, given, stop)
                given = stop
            needed = min(there, self._needed(given))
            kept, first = kept[:, needed - first :], needed

    def straight(self, array: np.ndarray) -> np.ndarray:
        """An array `[*lead, *own]` with the axes of the image itself, `[*lead, *S]`; a view."""
        lead = array.ndim - len(self.own)
        turned = np.flip(array, tuple(lead + axis for axis in self._flipped))
        return turned.transpose(*range(lead), *(lead + self._axes.index(axis) for axis in range(len(self.own))))

    def _turn(self, image: Rows, settings: DataSettings, name: str) -> None:
        """Axes permuted and flipped, and how many of the image's voxels make one of the network's, along each."""
        assert isinstance(image, Image)  # as volumes are
        axes, flipped, own = [0, 1, 2], [False] * 3, None
        if image.affine is not None:
            turn = io_orientation(image.affine)
            axes = [int(np.flatnonzero(turn[:, 0] == k)[0]) for k in range(3)]
            flipped = [bool(turn[axis, 1] < 0) for axis in axes]
            own = np.linalg.norm((image.affine @ inv_ornt_aff(turn, image.shape))[:3, :3], axis=0)
        order = [0, 1, 2]
        if settings.spatial_dims == 2:
            order = [settings.slice_axis, *(axis for axis in range(3) if axis != settings.slice_axis)]
        self._axes = tuple(axes[k] for k in order)
        self._flipped = tuple(k for k in range(3) if flipped[order[k]])
        self.shape = self.own = tuple(image.shape[axis] for axis in self._axes)
        if own is None or settings.spacing is None or np.allclose(own, settings.spacing, rtol=1e-3):
            return
        ratio = (np.array(settings.spacing) / own)[order]
        shape = tuple(int(n) for n in np.round((np.array(self.own) - 1) / ratio + 1))
        if np.prod(shape) > MOST_VOXELS:
            raise UserError(
                f"{name}: at the model's {settings.spacing} mm a voxel it would have {np.prod(shape):.2g} voxels, more than "
                f"{MOST_VOXELS:.2g}. Its own spacing is {tuple(round(float(s), 3) for s in own)}: is that in millimetres? Crop it, "
                "or mend its header."
            )
        self.shape, self._ratio = shape, ratio

    def _own_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows of the image in the order of `own`, `[C, h, *rest]`."""
        if self.planar:
            return self.image.rows(start, stop)
        assert isinstance(self.image, Image)
        turned = self.image.array.transpose(0, *(1 + axis for axis in self._axes))
        turned = np.flip(turned, tuple(1 + axis for axis in self._flipped))
        return np.ascontiguousarray(turned[:, start:stop])

    def _back(self, kept: np.ndarray, first: int, start: int, stop: int) -> np.ndarray:
        """The image's rows from rows of the network's grid, of which `kept` begins with number `first`."""
        if self.unchanged:
            return kept[:, start - first : stop - first]
        if self._ratio is None:
            scale = self.shape[0] / self.own[0]
            return resized(kept, (stop - start, self.own[1]), (start * scale, stop * scale))
        inverse = 1 / self._ratio
        offset = np.array([start * inverse[0] - first, 0.0, 0.0])
        return _interpolated(kept, inverse, offset, (stop - start, *self.own[1:]))

    def _ready(self, there: int) -> int:
        """How many of the image's rows follow from so many of the network's."""
        if self.unchanged:
            return there
        if self._ratio is None:
            return 0  # Pillow needs the whole picture
        return min(self.own[0], max(0, math.ceil((there - 1) * self._ratio[0])))

    def _needed(self, given: int) -> int:
        """The first of the network's rows that is still needed once so many of the image's are given."""
        if self.unchanged:
            return given
        return 0 if self._ratio is None else int(given / self._ratio[0])


def to_grid(image: Image, settings: DataSettings, name: str = "the image") -> np.ndarray:
    """The image on the network's grid, `[C, *S]` float32; arguments and errors as those of `Frame`."""
    frame = Frame(image, settings, name)
    axis = settings.slice_axis if settings.spatial_dims == 2 and not frame.planar else 0
    return np.moveaxis(frame.read(0, frame.shape[0]), 1, 1 + axis)


def turned_to(label: Image, image: Image) -> Image:
    """A label whose voxels are those of an image, but with axes permuted or flipped, with the axes of the image.

    A label that was drawn on a DICOM series and saved as NIfTI is of this kind. Any other label is returned as it is.
    """
    if label.affine is None or image.affine is None or np.allclose(label.affine, image.affine, atol=1e-2):
        return label
    turn = ornt_transform(io_orientation(label.affine), io_orientation(image.affine))
    affine = label.affine @ inv_ornt_aff(turn, label.shape)
    turned = np.moveaxis(apply_orientation(np.moveaxis(label.array, 0, -1), turn), -1, 0)
    if turned.shape[1:] != image.shape or not np.allclose(affine, image.affine, atol=1e-2):
        return label
    return replace(label, array=np.ascontiguousarray(turned), affine=affine)


def label_to_grid(label: Image, classes: int, settings: DataSettings) -> np.ndarray:
    """Classes on the network's grid, `[*S]` of uint8: each class is resampled as a probability, then the largest wins."""
    one_hot = np.stack([label.array[0] == k for k in range(classes)]).astype(np.float32)
    return to_grid(Image(one_hot, label.affine), settings).argmax(axis=0).astype(np.uint8)


def resized(values: np.ndarray, size: tuple[int, int], rows: tuple[float, float] | None = None) -> np.ndarray:
    """A picture `[C, H, W]` at another size `(H, W)`; a smaller one is smoothed first.

    Args:
        values: of the picture.
        size: rows and columns of the result.
        rows: the part of the picture that the result shows, from one row to another; all of it if `None`.
    """
    height, width = size
    top, bottom = rows or (0, values.shape[1])
    pictures = [Pillow.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in values]
    box = (0, top, values.shape[2], bottom)
    return np.stack([np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR, box)) for picture in pictures])


def _span(ratio: float, start: int, stop: int, length: int) -> tuple[int, int]:
    """The rows, among so many, from which rows `start` to `stop` at this ratio are interpolated."""
    return min(length - 1, int(start * ratio)), min(length, int((stop - 1) * ratio) + 2)


def _interpolated(values: np.ndarray, ratio: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation of `[N, *S]` at `ratio * index + offset`; beyond the edge the last value repeats."""
    moved = [ndimage.affine_transform(one, np.diag(ratio), offset, shape, order=1, mode="nearest") for one in values]
    return np.stack(moved).astype(np.float32, copy=False)
