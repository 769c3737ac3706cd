"""Resampling between an image's own grid and the network's grid, a few rows at a time.

For volumes, the network's grid has axes closest to right, anterior and superior, and the recipe's
spacing. For pictures, it has the recipe's rows and columns. Volumes without geometry keep their
axes and are not resampled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from PIL import Image as Pillow
from scipy import ndimage

from cdal.imaging.image import Image, invertible
from cdal.imaging.rows import Rows
from cdal.recipes.settings import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.memory import need_memory

MOST_VOXELS = 3e8
"""Largest resampled image, in voxels; a larger one indicates a spacing in the wrong unit."""

LONGEST = 5000.0
"""Longest image, in millimetres, that is resampled; longer ones are in another unit."""

OFF_GRID = 0.5
"""Voxels by which no corner of a label may lie off its image's; less is rounding in a header."""


class Frame:
    """An image and its position on the network's grid.

    Images are processed along one axis in steps called rows. Pictures use their pixel rows. Volumes
    use the axis closest to right, or the slice axis if the network segments slices.

    Args:
        image: image on its own grid. Volumes must be an `Image`, which is in memory.
        settings: settings of which `spacing` (volumes) and `resize` (pictures) are used.
        name: name of the image, for error messages.

    Attributes:
        image: the image.
        shape: shape of the network's grid, rows first.
        own: shape of the image with its axes in the same order.
        unchanged: whether the network's grid and the image have the same voxels.

    Raises:
        UserError: the affine cannot be inverted; or the resampled image would be larger than
            `MOST_VOXELS`, `LONGEST` or the memory.
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
        """Return rows of the image on the network's grid, with the stored intensities.

        Returns:
            `[C, stop - start, *rest]` float32.
        """
        if self.unchanged:
            return self._own_rows(start, stop)
        if self._ratio is None:
            # The whole picture is resized at once: reducing it mixes many of its rows into one.
            if self._resized is None:
                self._resized = resized(
                    self.image.rows(0, self.own[0]), (self.shape[0], self.shape[1])
                )
            return self._resized[:, start:stop]
        low, high = _span(self._ratio[0], start, stop, self.own[0])
        offset = np.array([start * self._ratio[0] - low, 0.0, 0.0])
        return _interpolated(
            self._own_rows(low, high), self._ratio, offset, (stop - start, *self.shape[1:])
        )

    def back(self, bands: Iterable[np.ndarray], rows: int | None = None) -> Iterator[np.ndarray]:
        """Interpolate values on the network's grid linearly to the image's own voxels.

        Args:
            bands: arrays `[N, h, *rest]` that hold all rows of the network's grid in order.
            rows: number of rows to yield at a time; `None` yields as many as are ready.

        Yields:
            Arrays `[N, h, *rest]` that hold all rows of the image in order, with axes in the order
            of `own`.
        """
        kept: np.ndarray | None = None
        first, yielded, length = 0, 0, self.own[0]
        for band in bands:
            kept = band if kept is None else np.concatenate([kept, band], axis=1)
            received = first + kept.shape[1]
            ready = length if received == self.shape[0] else self._ready(received)
            while yielded < ready and (rows is None or ready == length or ready - yielded >= rows):
                stop = ready if rows is None else min(ready, yielded + rows)
                yield self._back(kept, first, yielded, stop)
                yielded = stop
            needed = min(received, self._needed(yielded))
            kept, first = kept[:, needed - first :], needed

    def straight(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array `[*lead, *own]` with the axes of the image, `[*lead, *S]`."""
        lead = array.ndim - len(self.own)
        turned = np.flip(array, tuple(lead + axis for axis in self._flipped))
        return turned.transpose(
            *range(lead), *(lead + self._axes.index(axis) for axis in range(len(self.own)))
        )

    def _turn(self, image: Rows, settings: DataSettings, name: str) -> None:
        """Set the order and direction of the axes, and the ratio of the voxel sizes along each.

        A ratio is the network's voxel size divided by the image's.
        """
        assert isinstance(image, Image)  # volumes are always in memory
        axes, flipped, own_spacing = [0, 1, 2], [False] * 3, None
        if image.affine is not None:
            if not invertible(image.affine):
                raise UserError(
                    f"{name}: its affine cannot be inverted, so its voxels have no place in space: "
                    f"{image.affine.tolist()}."
                )
            turn = io_orientation(image.affine)
            axes = [int(np.flatnonzero(turn[:, 0] == k)[0]) for k in range(3)]
            flipped = [bool(turn[axis, 1] < 0) for axis in axes]
            own_spacing = np.linalg.norm(
                (image.affine @ inv_ornt_aff(turn, image.shape))[:3, :3], axis=0
            )
        order = [0, 1, 2]
        if settings.spatial_dims == 2:
            order = [
                settings.slice_axis,
                *(axis for axis in range(3) if axis != settings.slice_axis),
            ]
        self._axes = tuple(axes[k] for k in order)
        self._flipped = tuple(k for k in range(3) if flipped[order[k]])
        self.shape = self.own = tuple(image.shape[axis] for axis in self._axes)
        if (
            own_spacing is None
            or settings.spacing is None
            or np.allclose(own_spacing, settings.spacing, rtol=1e-3)
        ):
            return
        ratio = (np.array(settings.spacing) / own_spacing)[order]
        # Rounded twice, so that noise in a header does not decide at half a voxel.
        steps = np.round((np.array(self.own) - 1) / ratio + 1, 3)
        shape = tuple(max(1, int(n)) for n in np.round(steps))
        long = float((own_spacing * np.array(image.shape)[axes]).max())
        if math.prod(shape) > MOST_VOXELS or long > LONGEST:
            raise UserError(
                f"{name}: at the model's {settings.spacing} mm a voxel it would have "
                f"{math.prod(shape):.2g} voxels, and it is {long:.4g} mm long; the most are "
                f"{MOST_VOXELS:.2g} and {LONGEST:g} mm. {_remedy(own_spacing)}"
            )
        # The resampled image, its normalised copy, and what is computed of them.
        need_memory(16.0 * len(image.array) * math.prod(shape), name, _remedy(own_spacing))
        self.shape, self._ratio = shape, ratio

    def _own_rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the image in the axis order of `own`, `[C, h, *rest]`."""
        if self.planar:
            return self.image.rows(start, stop)
        assert isinstance(self.image, Image)
        turned = self.image.array.transpose(0, *(1 + axis for axis in self._axes))
        turned = np.flip(turned, tuple(1 + axis for axis in self._flipped))
        return np.ascontiguousarray(turned[:, start:stop])

    def _back(self, kept: np.ndarray, first: int, start: int, stop: int) -> np.ndarray:
        """Return rows of the image, interpolated from rows of the network's grid.

        Args:
            kept: rows of the network's grid.
            first: index of the first row in `kept`.
            start: first row of the image.
            stop: end of the rows of the image.
        """
        if self.unchanged:
            return kept[:, start - first : stop - first]
        if self._ratio is None:
            scale = self.shape[0] / self.own[0]
            return resized(kept, (stop - start, self.own[1]), (start * scale, stop * scale))
        inverse = 1 / self._ratio
        offset = np.array([start * inverse[0] - first, 0.0, 0.0])
        return _interpolated(kept, inverse, offset, (stop - start, *self.own[1:]))

    def _ready(self, received: int) -> int:
        """Return how many rows of the image the first `received` rows of the grid suffice for."""
        if self.unchanged:
            return received
        if self._ratio is None:
            return 0  # Pillow needs the whole picture
        return min(self.own[0], max(0, math.ceil((received - 1) * self._ratio[0])))

    def _needed(self, yielded: int) -> int:
        """Return the first row of the grid that is needed after `yielded` rows of the image."""
        if self.unchanged:
            return yielded
        return 0 if self._ratio is None else int(yielded / self._ratio[0])


def to_grid(image: Image, settings: DataSettings, name: str = "the image") -> Image:
    """Return the image on the network's grid; it has no affine.

    Arguments and errors are those of `Frame`.
    """
    frame = Frame(image, settings, name)
    axis = settings.slice_axis if settings.spatial_dims == 2 and not frame.planar else 0
    values = np.moveaxis(frame.read(0, frame.shape[0]), 1, 1 + axis)
    return Image(values, suffix=image.suffix, stored=image.stored)


def corners_apart(first: Image, second: Image) -> float:
    """Return how far the corners of two images of one shape are apart, in voxels of the second.

    It is the largest distance along an axis; 0 if one of them has no affine.
    """
    if first.affine is None or second.affine is None:
        return 0.0
    corners = np.array(list(itertools.product(*((0, n - 1) for n in second.shape))), float)
    corners = np.concatenate([corners, np.ones((len(corners), 1))], axis=1)
    moved = np.linalg.solve(second.affine, (first.affine - second.affine) @ corners.T)
    return float(np.abs(moved[:3]).max())


def same_grid(first: Image, second: Image) -> bool:
    """Whether two images have the same voxels, up to rounding in their headers (`OFF_GRID`)."""
    return first.shape == second.shape and corners_apart(first, second) < OFF_GRID


def turned_to(label: Image, image: Image) -> Image:
    """Reorder and flip the axes of a label to match those of its image.

    Labels drawn on a DICOM series and saved as NIfTI need this. A label on the image's grid gets
    the image's affine: what is left of rounding would otherwise be resampled. The label is returned
    unchanged if its voxels are not those of the image.
    """
    if same_grid(label, image):
        return replace(label, affine=image.affine)
    if label.affine is None or image.affine is None:
        return label
    turn = ornt_transform(io_orientation(label.affine), io_orientation(image.affine))
    affine = label.affine @ inv_ornt_aff(turn, label.shape)
    array = np.moveaxis(apply_orientation(np.moveaxis(label.array, 0, -1), turn), -1, 0)
    turned = replace(label, array=np.ascontiguousarray(array), affine=affine)
    return replace(turned, affine=image.affine) if same_grid(turned, image) else label


def off_grid(label: Image, image: Image) -> str | None:
    """Return how a label of the image's shape lies off the image's grid, or `None` if on it."""
    if label.affine is None or image.affine is None or same_grid(label, image):
        return None
    axes = ["".join(aff2axcodes(volume.affine)) for volume in (label, image)]
    turned = "" if axes[0] == axes[1] else f" Its axes are {axes[0]}, those of the other {axes[1]}."
    spacings = [" x ".join(f"{step:.4g}" for step in volume.spacing) for volume in (label, image)]
    sizes = (
        ""
        if spacings[0] == spacings[1]
        else f" Its voxels are {spacings[0]} mm, not {spacings[1]}."
    )
    return f"corners are up to {corners_apart(label, image):.3g} voxels apart.{turned}{sizes}"


def label_to_grid(label: Image, classes: int, settings: DataSettings) -> np.ndarray:
    """Resample classes to the network's grid, `[*S]` uint8.

    Each class is resampled as a probability; the most probable class wins.
    """
    one_hot = np.stack([label.array[0] == k for k in range(classes)]).astype(np.float32)
    return to_grid(Image(one_hot, label.affine), settings).array.argmax(axis=0).astype(np.uint8)


def resized(
    values: np.ndarray, size: tuple[int, int], rows: tuple[float, float] | None = None
) -> np.ndarray:
    """Resize a picture `[C, H, W]`; it is smoothed if it becomes smaller.

    Args:
        values: pixels of the picture, `[C, H, W]`.
        size: rows and columns of the result.
        rows: range of rows of the picture to resize; `None` means all of it.
    """
    height, width = size
    top, bottom = rows or (0, values.shape[1])
    box = (0, top, values.shape[2], bottom)
    result = np.empty((len(values), height, width), np.float32)
    for channel, target in zip(values, result, strict=True):
        picture = Pillow.fromarray(np.ascontiguousarray(channel, np.float32))
        target[:] = np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR, box))
    return result


def _remedy(spacing: np.ndarray) -> str:
    """Return what to do about an image that becomes too large."""
    return (
        f"Its own spacing is {tuple(round(float(s), 3) for s in spacing)}: is that in millimetres? "
        "Crop it, or correct its header."
    )


def _span(ratio: float, start: int, stop: int, length: int) -> tuple[int, int]:
    """Return the range of source rows needed to interpolate rows `start` to `stop`.

    Args:
        ratio: source rows per row.
        start: first row.
        stop: end of the rows.
        length: number of source rows.
    """
    return min(length - 1, int(start * ratio)), min(length, int((stop - 1) * ratio) + 2)


def _interpolated(
    values: np.ndarray, ratio: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Interpolate `[N, *S]` linearly at `ratio * index + offset`.

    Outside the array, its edge values are repeated.
    """
    moved = [
        ndimage.affine_transform(channel, np.diag(ratio), offset, shape, order=1, mode="nearest")
        for channel in values
    ]
    return np.stack(moved).astype(np.float32, copy=False)
