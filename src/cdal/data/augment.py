"""Random changes of a training patch, all drawn from one generator: place, rotation, size, mirror image, stain, intensity."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import Affine, GaussianSmooth
from monai.transforms.utils import create_rotate, create_scale, create_translate
from torch import Tensor

from cdal.data.intensities import from_unit, to_unit
from cdal.recipe import DataSettings

_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Absorption of red, green and blue by haematoxylin, eosin and DAB (Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 23, 2001)."""


def augment(image: Tensor, label: Tensor, settings: DataSettings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """One random patch.

    Place, rotation and size are one linear interpolation; the label's classes are interpolated as probabilities, then the largest
    wins. Beyond the image's edge the image repeats its last value and the label is background.

    Args:
        image: `[C, *S]`, normalised.
        label: `[*S]` of classes.
        settings: `size` of the patch and the strengths.
        rng: the source of every draw.

    Returns:
        `[C, *size]` float32 and `[*size]` int64.
    """
    image, label = _move(image, label, settings, rng)
    image = _restain(image, settings.stain, rng)
    for axis in settings.flips:
        if _uniform(0, 1, rng) < 0.5:
            image, label = image.flip(1 + axis), label.flip(axis)
    return _recolour(image, settings.intensity, rng), label


def _move(image: Tensor, label: Tensor, settings: DataSettings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    dims = settings.spatial_dims
    turn = math.radians(settings.rotation)
    rotation = [_uniform(-turn, turn, rng) for _ in range(1 if dims == 2 else 3)]
    scale = 1 + _uniform(-settings.scaling, settings.scaling, rng)
    centre = _centre(label, settings, rng)
    # Only what the patch can reach is moved: an image may be hundreds of times as large.
    corner = math.hypot(*settings.size) / 2 if settings.rotation else 0.0
    reach = [math.ceil(max(corner, size / 2) * scale) + 2 for size in settings.size]
    low = [max(0, math.floor(c) - r) for c, r in zip(centre, reach, strict=True)]
    high = [min(s, math.ceil(c) + r + 1) for c, r, s in zip(centre, reach, label.shape, strict=True)]
    block = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    with_channels = (slice(None), *block)
    # From the patch's own coordinates to the block's: sized, turned, then moved. (MONAI's own parameters would turn the move too.)
    away = [c - (start + stop - 1) / 2 for c, start, stop in zip(centre, low, high, strict=True)]
    matrix = create_translate(dims, away) @ create_rotate(dims, rotation) @ create_scale(dims, [scale] * dims)
    affine = Affine(affine=matrix, spatial_size=settings.size, image_only=True)
    classes = F.one_hot(label[block].long()).movedim(-1, 0).float()
    moved: Any = affine(image[with_channels], mode="bilinear", padding_mode="border")
    moved_classes: Any = affine(classes, mode="bilinear", padding_mode="zeros")
    return _plain(moved), _plain(moved_classes).argmax(dim=0)


def _centre(label: Tensor, settings: DataSettings, rng: torch.Generator) -> list[float]:
    """Of a patch, in voxels: anywhere that leaves it inside, give or take the shift; or near a voxel of a class."""
    rooms = [min(max(0, s - size) / 2 + settings.shift, s / 2) for s, size in zip(label.shape, settings.size, strict=True)]
    away = [_uniform(-room, room, rng) for room in rooms]
    if settings.foreground and _uniform(0, 1, rng) < settings.foreground and (present := label.unique()[1:]).numel():
        chosen = present[int(torch.randint(len(present), (), generator=rng))]
        voxels = (label == chosen).nonzero()
        voxel = voxels[int(torch.randint(len(voxels), (), generator=rng))].tolist()
        near = [v + _uniform(-0.25, 0.25, rng) * size for v, size in zip(voxel, settings.size, strict=True)]
        away = [min(max(n - (s - 1) / 2, -room), room) for n, s, room in zip(near, label.shape, rooms, strict=True)]
    return [(s - 1) / 2 + a for s, a in zip(label.shape, away, strict=True)]


def _restain(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """More or less of each stain (Tellez et al., IEEE TMI 37(9), 2018): optical density is linear in the stains' amounts."""
    if strength == 0:
        return image
    stains = F.normalize(_STAINS, dim=1)
    density = -to_unit(image).clamp(1e-3, 1).log()
    amounts = torch.tensordot(torch.linalg.inv(stains).T, density, dims=1)
    factor, offset = (torch.tensor([_uniform(-1, 1, rng) for _ in range(3)]).reshape(3, *[1] * (image.dim() - 1)) for _ in range(2))
    changed = amounts * (1 + 0.25 * strength * factor) + 0.1 * strength * offset
    return from_unit((-torch.tensordot(stains.T, changed, dims=1)).exp().clamp(0, 1))


def _recolour(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Contrast, brightness, gamma, blur and noise, each in some of the patches."""
    if strength == 0:
        return image
    if _uniform(0, 1, rng) < 0.5:
        image = image * (1 + _uniform(-0.25, 0.25, rng) * strength) + _uniform(-0.2, 0.2, rng) * strength
    if _uniform(0, 1, rng) < 0.3:
        low, high = image.amin(), image.amax()
        unit = (image - low) / (high - low).clamp_min(1e-6)
        image = unit ** math.exp(_uniform(-0.4, 0.4, rng) * strength) * (high - low) + low
    if _uniform(0, 1, rng) < 0.15:
        image = _plain(GaussianSmooth(sigma=_uniform(0.4, 1.0, rng) * strength)(image))
    if _uniform(0, 1, rng) < 0.3:
        image = image + torch.randn(image.shape, generator=rng) * _uniform(0, 0.2, rng) * strength
    return image


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _plain(x: Any) -> Tensor:
    """MONAI's transforms answer with tensors that carry a history; the network needs none."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
