"""Random changes of a training patch, all drawn from one generator: place, rotation, size, mirror image, intensity."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import Affine, GaussianSmooth
from torch import Tensor

from cdal.recipe import DataSettings


def augment(image: Tensor, label: Tensor, settings: DataSettings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """One random patch.

    Place, rotation and size are one linear interpolation; the label's classes are interpolated as probabilities, then the largest
    wins. Beyond the image's edge the image repeats its last value and the label is background.

    Args:
        image: `[C, *S]`, mean 0 and standard deviation 1.
        label: `[*S]` of classes.
        settings: `size` of the patch and the strengths.
        rng: the source of every draw.

    Returns:
        `[C, *size]` float32 and `[*size]` int64.
    """
    image, label = _move(image, label, settings, rng)
    for axis in settings.flips:
        if _uniform(0, 1, rng) < 0.5:
            image, label = image.flip(1 + axis), label.flip(axis)
    return _recolour(image, settings.intensity, rng), label


def _move(image: Tensor, label: Tensor, settings: DataSettings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    dims = settings.spatial_dims
    space = image.shape[1:]
    spare = [max(0, s - size) / 2 for s, size in zip(space, settings.size, strict=True)]
    turn = math.radians(settings.rotation)
    affine = Affine(
        rotate_params=[_uniform(-turn, turn, rng) for _ in range(1 if dims == 2 else 3)],
        scale_params=[1 + _uniform(-settings.scaling, settings.scaling, rng)] * dims,
        translate_params=[_uniform(-room - settings.shift, room + settings.shift, rng) for room in spare],
        spatial_size=settings.size,
        image_only=True,
    )
    classes = F.one_hot(label.long()).movedim(-1, 0).float()
    moved: Any = affine(image, mode="bilinear", padding_mode="border")
    moved_classes: Any = affine(classes, mode="bilinear", padding_mode="zeros")
    return _plain(moved), _plain(moved_classes).argmax(dim=0)


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
