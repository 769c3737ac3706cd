"""Between an image's own grid and the network's.

The network's grid: of volumes, axes nearest to right, anterior, superior and the recipe's spacing; of pictures, the recipe's rows
and columns. A volume without a place in space is taken as it is.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing, SpatialResample
from torch import Tensor

from cdal.data.image import Image
from cdal.errors import UserError
from cdal.recipe import DataSettings

MOST_VOXELS = 3e8
"""Voxels of a resampled image; more are the sign of a spacing in the wrong unit."""


def to_grid(image: Image, settings: DataSettings, name: str = "the image") -> MetaTensor:
    """The image on the network's grid, `[C, *S]`, with its affine.

    Args:
        image: on its own grid.
        settings: `spacing` of volumes, `resize` of pictures.
        name: of the image, for the message.

    Raises:
        UserError: the image would be larger than `MOST_VOXELS`.
    """
    if image.affine is None:
        values = torch.from_numpy(image.array.copy())
        size = settings.resize if len(image.shape) == 2 else None
        return MetaTensor(values if size is None or size == image.shape else resized(values, size))
    spacing = settings.spacing
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


def label_to_grid(label: Image, classes: int, settings: DataSettings) -> Tensor:
    """Classes on the network's grid, `[*S]` of uint8: each class is resampled as a probability, then the largest wins."""
    one_hot = np.stack([label.array[0] == k for k in range(classes)]).astype(np.float32)
    return to_grid(Image(one_hot, label.affine), settings).as_tensor().argmax(dim=0).to(torch.uint8)


def from_grid(values: Tensor, grid: MetaTensor, image: Image) -> Tensor:
    """Values on the network's grid brought back to the image's own, `[N, *S] -> [N, *own]`, by linear interpolation.

    Args:
        values: probabilities, say.
        grid: what `to_grid` gave for the image.
        image: on its own grid.
    """
    if image.affine is None:
        return values.cpu() if tuple(values.shape[1:]) == image.shape else resized(values.cpu(), image.shape)
    resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float64)
    moved = resample(
        MetaTensor(values.cpu(), affine=grid.affine), dst_affine=torch.from_numpy(image.affine), spatial_size=image.shape
    )
    return _meta(moved).as_tensor().float()


def resized(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """A picture `[C, H, W]` at another size; a smaller one is smoothed first."""
    return F.interpolate(values[None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0]


def _as_meta(image: Image) -> MetaTensor:
    """Axes permuted and flipped to be nearest to right, anterior, superior."""
    values = MetaTensor(torch.from_numpy(image.array.copy()), affine=torch.from_numpy(image.affine))
    return _meta(Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(values))


def _meta(values: Tensor) -> MetaTensor:
    """MONAI's transforms promise a tensor and give one that knows its affine."""
    assert isinstance(values, MetaTensor)
    return values
