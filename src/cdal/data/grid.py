"""Between an image's own grid and the network's.

The network's grid: axes nearest to right, anterior, superior; the recipe's spacing; intensities clipped to their 0.5 and 99.5
percentiles and scaled to mean 0 and standard deviation 1. Pictures keep their grid.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing, SpatialResample
from torch import Tensor

from cdal.data.formats import Image
from cdal.errors import UserError

MOST_VOXELS = 3e8
"""Voxels of a resampled image; more are the sign of a spacing in the wrong unit."""


def to_grid(image: Image, spacing: tuple[float, ...] | None, name: str = "the image") -> MetaTensor:
    """The image on the network's grid, `[C, *S]`, with its affine.

    Args:
        image: on its own grid.
        spacing: millimetres per voxel; none keeps the image's own.
        name: of the image, for the message.

    Raises:
        UserError: the image would be larger than `MOST_VOXELS`.
    """
    if image.affine is None:
        return MetaTensor(torch.from_numpy(image.array.copy()))
    values = _as_meta(image)
    if spacing is None or np.allclose(values.pixdim.numpy(), spacing, rtol=1e-3):
        return values
    voxels = np.prod(np.array(values.shape[1:]) * values.pixdim.numpy() / spacing)
    if voxels > MOST_VOXELS:
        raise UserError(
            f"{name}: at the model's {spacing} mm a voxel it would have {voxels:.2g} voxels, more than {MOST_VOXELS:.2g}. Its own "
            f"spacing is {tuple(round(float(s), 3) for s in values.pixdim)}: is that in millimetres? Crop it, or mend its header."
        )
    resampled = Spacing(pixdim=spacing, mode="bilinear", padding_mode="border", dtype=np.float64)(values)
    return _meta(resampled.float())


def label_to_grid(label: Image, classes: int, spacing: tuple[float, ...] | None) -> Tensor:
    """Classes on the network's grid, `[*S]` of uint8: each class is resampled as a probability, then the largest wins."""
    one_hot = np.stack([label.array[0] == k for k in range(classes)]).astype(np.float32)
    return to_grid(Image(one_hot, label.affine), spacing).as_tensor().argmax(dim=0).to(torch.uint8)


def from_grid(values: Tensor, grid: MetaTensor, image: Image) -> Tensor:
    """Values on the network's grid brought back to the image's own, `[N, *S] -> [N, *own]`, by linear interpolation.

    Args:
        values: probabilities, say.
        grid: what `to_grid` gave for the image.
        image: on its own grid.
    """
    if image.affine is None:
        return values
    resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float64)
    moved = resample(
        MetaTensor(values.cpu(), affine=grid.affine), dst_affine=torch.from_numpy(image.affine), spatial_size=image.shape
    )
    return _meta(moved).as_tensor().float()


def normalise(values: MetaTensor, name: str) -> MetaTensor:
    """Clip each channel to its 0.5 and 99.5 percentiles and scale it to mean 0 and standard deviation 1.

    Args:
        values: `[C, *S]`.
        name: of the case, for the message.

    Raises:
        UserError: a channel is constant.
    """
    flat = values.as_tensor().flatten(1).numpy()
    low, high = np.percentile(flat, [0.5, 99.5], axis=1, keepdims=True).astype(np.float32)
    # A channel that is flat but for a small object has no percentiles to clip to.
    sparse = high <= low
    low = np.where(sparse, flat.min(axis=1, keepdims=True), low)
    high = np.where(sparse, flat.max(axis=1, keepdims=True), high)
    constant = (high <= low)[:, 0]
    if constant.any():
        raise UserError(
            f"{name}: expected an image with some contrast; every voxel is {low[constant][0, 0]:g}. Is it the right file?"
        )
    flat = np.clip(flat, low, high)
    # In float64: intensities reach 1e6 and more, whose squares do not add up in float32.
    wide = flat.astype(np.float64)
    scaled = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    return MetaTensor(torch.from_numpy(scaled.astype(np.float32)).reshape(values.shape), affine=values.affine)


def _as_meta(image: Image) -> MetaTensor:
    """Axes permuted and flipped to be nearest to right, anterior, superior."""
    values = MetaTensor(torch.from_numpy(image.array.copy()), affine=torch.from_numpy(image.affine))
    return _meta(Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(values))


def _meta(values: Tensor) -> MetaTensor:
    """MONAI's transforms promise a tensor and give one that knows its affine."""
    assert isinstance(values, MetaTensor)
    return values
