"""Random augmentation of training patches.

Each patch has its own generator for position, rotation, scale, mirroring, collimation and colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import GaussianSmooth
from monai.transforms.utils import create_rotate, create_scale, create_translate
from torch import Tensor

from cdal.recipes.recipe import DataSettings

_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Absorption of red, green and blue light by haematoxylin, eosin and DAB.

Source: Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 23, 2001.
"""


def augment(
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    centres: Sequence[Tensor],
    settings: DataSettings,
    rngs: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """Draw a batch of random patches, one per image.

    Position, rotation, scale and mirroring are applied to the whole batch by a single linear
    interpolation. Label classes are interpolated as probabilities; the most probable class wins.
    Outside the image, its edge values are repeated and the label is background.

    Args:
        images: normalised images, `[C, *S]` each.
        labels: classes by R annotators, `[R, *S]` each.
        centres: classes on whose voxels some patches are centred, `[*S]` each.
        settings: patch size and strength of each augmentation.
        rngs: one random generator per image.

    Returns:
        Images `[B, C, *size]` (float32) and labels `[R, B, *size]` (int64).
    """
    moves = [_draw_move(label, settings, rng) for label, rng in zip(centres, rngs, strict=True)]
    grid = _grid(moves, settings.size)
    shape = _largest(moves)
    seen = [image[move.with_channels] for image, move in zip(images, moves, strict=True)]
    blocks = torch.stack([_padded(block, shape, "replicate") for block in seen])
    moved = F.grid_sample(blocks, grid, mode="bilinear", padding_mode="border", align_corners=False)
    classes = [
        _padded(label[move.with_channels], shape, "constant")
        for label, move in zip(labels, moves, strict=True)
    ]
    by_annotator = torch.stack(classes, dim=1)[:, :, None]
    chosen = torch.stack([_move_classes(of_one, grid) for of_one in by_annotator])
    changed = [
        _recolour(
            _restain(_collimate(image, label, settings, rng), settings.stain, rng),
            settings.intensity,
            rng,
        )
        for image, label, rng in zip(moved, chosen[0], rngs, strict=True)
    ]
    return torch.stack(changed), chosen


class _Move(NamedTuple):
    """The part of an image that a patch needs, and the map from the patch to it.

    Attributes:
        block: the part of the image within reach of the patch; the image may be far larger.
        matrix: homogeneous matrix from patch voxels to block voxels, each counted from its own
            centre.
    """

    block: tuple[slice, ...]
    matrix: np.ndarray

    @property
    def with_channels(self) -> tuple[slice, ...]:
        """Index of the block in an image `[C, *S]`."""
        return (slice(None), *self.block)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return tuple(part.stop - part.start for part in self.block)


def _draw_move(label: Tensor, settings: DataSettings, rng: torch.Generator) -> _Move:
    dims = settings.spatial_dims
    turn = math.radians(settings.rotation)
    rotation = [_uniform(-turn, turn, rng) for _ in range(1 if dims == 2 else 3)]
    scale = 1 + _uniform(-settings.scaling, settings.scaling, rng)
    centre = _centre(label, settings, rng)
    corner = math.hypot(*settings.size) / 2 if settings.rotation else 0.0
    reach = [math.ceil(max(corner, size / 2) * scale) + 2 for size in settings.size]
    low = [max(0, math.floor(c) - r) for c, r in zip(centre, reach, strict=True)]
    high = [
        min(s, math.ceil(c) + r + 1) for c, r, s in zip(centre, reach, label.shape, strict=True)
    ]
    offset = [c - (start + stop - 1) / 2 for c, start, stop in zip(centre, low, high, strict=True)]
    mirror = [
        -scale if axis in settings.flips and _uniform(0, 1, rng) < 0.5 else scale
        for axis in range(dims)
    ]
    # The patch is mirrored and scaled, then rotated, then translated.
    # MONAI's Affine is not used because it would rotate the translation too.
    matrix = (
        create_translate(dims, offset) @ create_rotate(dims, rotation) @ create_scale(dims, mirror)
    )
    return _Move(
        tuple(slice(start, stop) for start, stop in zip(low, high, strict=True)), np.asarray(matrix)
    )


def _largest(moves: Sequence[_Move]) -> tuple[int, ...]:
    return tuple(max(sizes) for sizes in zip(*(move.shape for move in moves), strict=True))


def _grid(moves: Sequence[_Move], size: tuple[int, ...]) -> Tensor:
    """Return the position of each patch voxel in the padded blocks.

    Coordinates follow `grid_sample`: from -1 to 1, the last axis first.
    """
    shape, dims = np.array(_largest(moves)), len(size)
    thetas = []
    for move in moves:
        # A block is padded at its end only, so the padding moves the centre.
        shift = (np.array(move.shape) - shape) / 2
        matrix = move.matrix[:dims, :dims] * np.array(size) / shape[:, None]
        offset = (move.matrix[:dims, dims] + shift) * 2 / shape
        thetas.append(np.concatenate([matrix[::-1, ::-1], offset[::-1, None]], axis=1))
    theta = torch.from_numpy(np.stack(thetas)).float()
    return F.affine_grid(theta, [len(moves), 1, *size], align_corners=False)


def _padded(x: Tensor, shape: tuple[int, ...], mode: str) -> Tensor:
    """Pad a block `[C, *S]` at the end of each axis."""
    missing = [wanted - s for wanted, s in zip(shape, x.shape[1:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x[None], [pad for m in reversed(missing) for pad in (0, m)], mode=mode)[0]


def _move_classes(labels: Tensor, grid: Tensor) -> Tensor:
    """Resample classes `[B, 1, *S]` at the positions of the grid.

    A voxel is background unless a foreground class is more probable than background.

    Returns:
        Classes `[B, *size]`.
    """
    best = torch.zeros(grid.shape[:-1])
    chosen = torch.zeros(grid.shape[:-1], dtype=torch.int64)
    rest = torch.ones(grid.shape[:-1])
    for k in range(1, int(labels.max()) + 1):
        p = F.grid_sample(
            (labels == k).float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )[:, 0]
        chosen[p > best] = k
        best = torch.maximum(best, p)
        rest -= p
    chosen[rest >= best] = 0
    return chosen


def _centre(label: Tensor, settings: DataSettings, rng: torch.Generator) -> list[float]:
    """Draw the centre of a patch, in voxels.

    It is drawn uniformly such that the patch stays inside the image, apart from `settings.shift`.
    With probability `settings.foreground` it is drawn near a voxel of a random class instead.
    """
    limits = [
        min(max(0, s - size) / 2 + settings.shift, s / 2)
        for s, size in zip(label.shape, settings.size, strict=True)
    ]
    offset = [_uniform(-limit, limit, rng) for limit in limits]
    if (
        settings.foreground
        and _uniform(0, 1, rng) < settings.foreground
        and (present := label.unique()[1:]).numel()
    ):
        chosen = present[int(torch.randint(len(present), (), generator=rng))]
        voxels = (label == chosen).nonzero()
        voxel = voxels[int(torch.randint(len(voxels), (), generator=rng))].tolist()
        near = [
            v + _uniform(-0.25, 0.25, rng) * size
            for v, size in zip(voxel, settings.size, strict=True)
        ]
        offset = [
            min(max(n - (s - 1) / 2, -limit), limit)
            for n, s, limit in zip(near, label.shape, limits, strict=True)
        ]
    return [(s - 1) / 2 + a for s, a in zip(label.shape, offset, strict=True)]


def _collimate(
    image: Tensor, label: Tensor, settings: DataSettings, rng: torch.Generator
) -> Tensor:
    """Darken everything outside a random field that contains the foreground.

    The dark level lies between black and the mean of the foreground, like the air around a patient
    in an X-ray. Unless intensities are scaled by `range`, the result is normalised again, because
    the statistics of an image include its dark border.
    """
    if settings.collimation == 0 or _uniform(0, 1, rng) >= settings.collimation:
        return image
    axes = tuple(range(1, image.dim()))
    places = label.nonzero()
    field = [slice(None)]
    for axis, size in enumerate(label.shape):
        first, last = (
            (int(places[:, axis].min()), int(places[:, axis].max()))
            if len(places)
            else (size // 2, size // 2)
        )
        field.append(slice(int(_uniform(0, first, rng)), math.ceil(_uniform(last + 1, size, rng))))
    black = image.amin(dim=axes, keepdim=True)
    inside = image[:, label > 0].mean(dim=1).reshape(black.shape) if len(places) else black
    darkened = (black + _uniform(0, 1, rng) * (inside - black)).expand_as(image).clone()
    darkened[tuple(field)] = image[tuple(field)]
    if settings.intensities == "range":
        return darkened
    sd, mean = torch.std_mean(darkened, dim=axes, keepdim=True)
    return (darkened - mean) / sd.clamp_min(1e-6)


def _restain(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Vary the amount of each stain at random (Tellez et al., IEEE TMI 37(9), 2018).

    Optical density is linear in the amounts of the stains.
    """
    if strength == 0:
        return image
    stains = F.normalize(_STAINS, dim=1)
    # `range` maps intensities to [-2, 2].
    density = -((image + 2) / 4).clamp(1e-3, 1).log()
    amounts = torch.tensordot(torch.linalg.inv(stains).T, density, dims=1)
    factor, offset = (
        torch.tensor([_uniform(-1, 1, rng) for _ in range(3)]).reshape(3, *[1] * (image.dim() - 1))
        for _ in range(2)
    )
    changed = amounts * (1 + 0.25 * strength * factor) + 0.1 * strength * offset
    return (-torch.tensordot(stains.T, changed, dims=1)).exp().clamp(0, 1) * 4 - 2


def _recolour(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Change contrast, brightness, gamma, blur and noise, each with some probability."""
    if strength == 0:
        return image
    if _uniform(0, 1, rng) < 0.5:
        image = (
            image * (1 + _uniform(-0.25, 0.25, rng) * strength)
            + _uniform(-0.2, 0.2, rng) * strength
        )
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
    """Convert a MONAI tensor, which records the transforms applied to it, to a plain tensor."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
