"""Random changes of a training patch, all drawn from one generator: place, rotation, size, mirror image, field, colours."""

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
"""Absorption of red, green and blue by haematoxylin, eosin and DAB (Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 23, 2001)."""


def augment(
    images: Sequence[Tensor], labels: Sequence[Tensor], settings: DataSettings, rngs: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """A batch of random patches, one of each image.

    Place, rotation, size and mirror image are one linear interpolation for the whole batch; the label's classes are interpolated as
    probabilities, then the largest wins. Beyond the image's edge the image repeats its last value and the label is background.

    Args:
        images: `[C, *S]` each, normalised.
        labels: `[*S]` of classes each.
        settings: `size` of the patches and the strengths.
        rngs: of each image, the source of its draws.

    Returns:
        `[B, C, *size]` float32 and `[B, *size]` int64.
    """
    moves = [_draw_move(label, settings, rng) for label, rng in zip(labels, rngs, strict=True)]
    grid = _grid(moves, settings.size)
    shape = _largest(moves)
    seen = [image[move.with_channels] for image, move in zip(images, moves, strict=True)]
    blocks = torch.stack([_padded(block, shape, "replicate") for block in seen])
    moved = F.grid_sample(blocks, grid, mode="bilinear", padding_mode="border", align_corners=False)
    classes = [_padded(label[move.block][None], shape, "constant") for label, move in zip(labels, moves, strict=True)]
    chosen = _move_classes(torch.stack(classes), grid)
    changed = [
        _recolour(_restain(_collimate(image, label, settings, rng), settings.stain, rng), settings.intensity, rng)
        for image, label, rng in zip(moved, chosen, rngs, strict=True)
    ]
    return torch.stack(changed), chosen


class _Move(NamedTuple):
    """Which part of an image is looked at, and where each voxel of the patch lies in it.

    Attributes:
        block: the part that the patch can reach: an image may be hundreds of times as large.
        matrix: from a voxel of the patch to one of the block, each counted from its own centre; homogeneous.
    """

    block: tuple[slice, ...]
    matrix: np.ndarray

    @property
    def with_channels(self) -> tuple[slice, ...]:
        """The block of an image `[C, *S]`."""
        return (slice(None), *self.block)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the block."""
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
    high = [min(s, math.ceil(c) + r + 1) for c, r, s in zip(centre, reach, label.shape, strict=True)]
    away = [c - (start + stop - 1) / 2 for c, start, stop in zip(centre, low, high, strict=True)]
    mirror = [-scale if axis in settings.flips and _uniform(0, 1, rng) < 0.5 else scale for axis in range(dims)]
    # Mirrored and sized, turned, then moved. (The parameters of MONAI's Affine would turn the move too.)
    matrix = create_translate(dims, away) @ create_rotate(dims, rotation) @ create_scale(dims, mirror)
    return _Move(tuple(slice(start, stop) for start, stop in zip(low, high, strict=True)), np.asarray(matrix))


def _largest(moves: Sequence[_Move]) -> tuple[int, ...]:
    return tuple(max(sizes) for sizes in zip(*(move.shape for move in moves), strict=True))


def _grid(moves: Sequence[_Move], size: tuple[int, ...]) -> Tensor:
    """Where in the padded blocks each voxel of the patches lies, as `grid_sample` wants it: from -1 to 1, the last axis first."""
    shape, dims = np.array(_largest(moves)), len(size)
    thetas = []
    for move in moves:
        # The block lies at the start of its padded form, so that its centre is not the centre.
        shift = (np.array(move.shape) - shape) / 2
        matrix = move.matrix[:dims, :dims] * np.array(size) / shape[:, None]
        offset = (move.matrix[:dims, dims] + shift) * 2 / shape
        thetas.append(np.concatenate([matrix[::-1, ::-1], offset[::-1, None]], axis=1))
    theta = torch.from_numpy(np.stack(thetas)).float()
    return F.affine_grid(theta, [len(moves), 1, *size], align_corners=False)


def _padded(x: Tensor, shape: tuple[int, ...], mode: str) -> Tensor:
    """The block `[C, *S]` at the start of a larger one."""
    missing = [wanted - s for wanted, s in zip(shape, x.shape[1:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x[None], [pad for m in reversed(missing) for pad in (0, m)], mode=mode)[0]


def _move_classes(labels: Tensor, grid: Tensor) -> Tensor:
    """The classes `[B, 1, *S]` at the grid's places, `[B, *size]`. What no class of the foreground wins is background."""
    best = torch.zeros(grid.shape[:-1])
    chosen = torch.zeros(grid.shape[:-1], dtype=torch.int64)
    rest = torch.ones(grid.shape[:-1])
    for k in range(1, int(labels.max()) + 1):
        p = F.grid_sample((labels == k).float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
        chosen[p > best] = k
        best = torch.maximum(best, p)
        rest -= p
    chosen[rest >= best] = 0
    return chosen


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


def _collimate(image: Tensor, label: Tensor, settings: DataSettings, rng: torch.Generator) -> Tensor:
    """One dark level beyond a field that holds the foreground; then scaled as images are, to which their borders belong.

    The level lies between black and the foreground's mean, as the air beside a patient does.
    """
    if settings.collimation == 0 or _uniform(0, 1, rng) >= settings.collimation:
        return image
    axes = tuple(range(1, image.dim()))
    places = label.nonzero()
    field = [slice(None)]
    for axis, size in enumerate(label.shape):
        first, last = (int(places[:, axis].min()), int(places[:, axis].max())) if len(places) else (size // 2, size // 2)
        field.append(slice(int(_uniform(0, first, rng)), math.ceil(_uniform(last + 1, size, rng))))
    black = image.amin(dim=axes, keepdim=True)
    inside = image[:, label > 0].mean(dim=1).reshape(black.shape) if len(places) else black
    seen = (black + _uniform(0, 1, rng) * (inside - black)).expand_as(image).clone()
    seen[tuple(field)] = image[tuple(field)]
    if settings.intensities == "range":
        return seen
    sd, mean = torch.std_mean(seen, dim=axes, keepdim=True)
    return (seen - mean) / sd.clamp_min(1e-6)


def _restain(image: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """More or less of each stain (Tellez et al., IEEE TMI 37(9), 2018): optical density is linear in the stains' amounts."""
    if strength == 0:
        return image
    stains = F.normalize(_STAINS, dim=1)
    density = -((image + 2) / 4).clamp(1e-3, 1).log()  # `range` puts intensities between -2 and 2
    amounts = torch.tensordot(torch.linalg.inv(stains).T, density, dims=1)
    factor, offset = (torch.tensor([_uniform(-1, 1, rng) for _ in range(3)]).reshape(3, *[1] * (image.dim() - 1)) for _ in range(2))
    changed = amounts * (1 + 0.25 * strength * factor) + 0.1 * strength * offset
    return (-torch.tensordot(stains.T, changed, dims=1)).exp().clamp(0, 1) * 4 - 2


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
