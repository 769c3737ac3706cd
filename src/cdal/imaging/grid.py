"""Between an image's own grid and the network's.

The network's grid: of volumes, axes nearest to right, anterior, superior and the recipe's spacing; of pictures, the recipe's rows
and columns. A volume without a place in space is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from PIL import Image as Pillow
from scipy import ndimage

from cdal.imaging.image import Image
from cdal.recipes.settings import DataSettings
from cdal.runtime.errors import UserError

MOST_VOXELS = 3e8
"""Voxels of a resampled image; more are the sign of a spacing in the wrong unit."""


@dataclass(frozen=True)
class Grid:
    """Numbers on the network's grid.

    Attributes:
        array: `[C, *S]` float32.
        affine: `[4, 4]`, voxel to millimetres; none where the image has none.
    """

    array: np.ndarray
    affine: np.ndarray | None = None


def to_grid(image: Image, settings: DataSettings, name: str = "the image") -> Grid:
    """The image on the network's grid.

    Args:
        image: on its own grid.
        settings: `spacing` of volumes, `resize` of pictures.
        name: of the image, for the message.

    Raises:
        UserError: the image would be larger than `MOST_VOXELS`.
    """
    if image.affine is None:
        size = settings.resize if len(image.shape) == 2 else None
        return Grid(image.array if size is None or size == image.shape else resized(image.array, size))
    array, affine = _nearest_ras(image.array, image.affine)
    own, spacing = np.linalg.norm(affine[:3, :3], axis=0), settings.spacing
    if spacing is None or np.allclose(own, spacing, rtol=1e-3):
        return Grid(array, affine)
    ratio = np.array(spacing) / own
    shape = tuple(int(n) for n in np.round((np.array(array.shape[1:]) - 1) / ratio + 1))
    if np.prod(shape) > MOST_VOXELS:
        raise UserError(
            f"{name}: at the model's {spacing} mm a voxel it would have {np.prod(shape):.2g} voxels, more than {MOST_VOXELS:.2g}. "
            f"Its own spacing is {tuple(round(float(s), 3) for s in own)}: is that in millimetres? Crop it, or mend its header."
        )
    return Grid(_resampled(array, np.diag([*ratio, 1.0]), shape), affine @ np.diag([*ratio, 1.0]))


def label_to_grid(label: Image, classes: int, settings: DataSettings) -> np.ndarray:
    """Classes on the network's grid, `[*S]` of uint8: each class is resampled as a probability, then the largest wins."""
    one_hot = np.stack([label.array[0] == k for k in range(classes)]).astype(np.float32)
    return to_grid(Image(one_hot, label.affine), settings).array.argmax(axis=0).astype(np.uint8)


def from_grid(values: np.ndarray, grid: Grid, image: Image) -> np.ndarray:
    """Values on the network's grid brought back to the image's own, `[N, *S] -> [N, *own]`, by linear interpolation.

    Args:
        values: probabilities, say.
        grid: what `to_grid` gave for the image.
        image: on its own grid.
    """
    if image.affine is None or grid.affine is None:
        return values if values.shape[1:] == image.shape else resized(values, (image.shape[0], image.shape[1]))
    return _resampled(values, np.linalg.inv(grid.affine) @ image.affine, image.shape)


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture `[C, H, W]` at another size `(H, W)`; a smaller one is smoothed first."""
    rows, columns = size
    pictures = [Pillow.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in values]
    return np.stack([np.asarray(picture.resize((columns, rows), Pillow.Resampling.BILINEAR)) for picture in pictures])


def _nearest_ras(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes permuted and flipped to be nearest to right, anterior, superior."""
    turn = io_orientation(affine)
    turned = np.moveaxis(apply_orientation(np.moveaxis(array, 0, -1), turn), -1, 0)
    return np.ascontiguousarray(turned), affine @ inv_ornt_aff(turn, array.shape[1:])


def _resampled(values: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation of `[N, *S]`; beyond the edge the last value repeats.

    Args:
        values: to interpolate.
        matrix: from a voxel of the result to one of `values`, homogeneous.
        shape: of the result.
    """
    turned = _turned(values, np.round(matrix)) if np.allclose(matrix, np.round(matrix), atol=1e-3) else None
    if turned is not None and turned.shape[1:] == shape:
        return turned
    moved = [ndimage.affine_transform(one, matrix[:3, :3], matrix[:3, 3], shape, order=1, mode="nearest") for one in values]
    return np.stack(moved).astype(np.float32, copy=False)


def _turned(values: np.ndarray, matrix: np.ndarray) -> np.ndarray | None:
    """The values with axes permuted and flipped, where that is all that the matrix does."""
    turn, offset = matrix[:3, :3], matrix[:3, 3]
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    axes = np.abs(turn).argmax(axis=0)
    backwards = [axis for axis, of in enumerate(axes) if turn[of, axis] < 0]
    begins = np.where(turn.sum(axis=1) < 0, np.array(values.shape[1:]) - 1, 0)
    if (offset != begins).any():
        return None
    return np.flip(values.transpose(0, *(1 + axes)), tuple(1 + axis for axis in backwards))
