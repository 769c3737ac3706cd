"""The discriminator's spatial attention map (Hejrati et al., MICCAI 2024, Sec. 2.2) and its controls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cdal.recipes.cdal import Attention


def attention_map(features: Tensor, size: torch.Size | tuple[int, ...], kind: Attention, rng: torch.Generator) -> Tensor:
    """The factor A by which the label is multiplied before it is noised: x0_att = x0 * A.

    - `raw`: the paper's A_D, the mean over channels of the discriminator's features. Nothing bounds it: on trained
      discriminators it was found to be mostly negative and tiny, which wipes the label out.
    - `normalised`: A_D shifted to be non-negative and scaled to mean 1: it moves weight between regions and keeps the amount.
    - `shuffled`: the normalised map with its positions permuted: the same values, no spatial meaning.
    - `constant`: the mean of the raw map everywhere: input scaling, no map.
    - `none`: 1.

    Args:
        features: F_i, `[B, C, *S / r]`.
        size: `*S`, to which the map is upsampled.
        kind: which map.
        rng: for `shuffled`.

    Returns:
        `[B, 1, *S]`, through which no gradient flows.
    """
    raw = features.detach().float().mean(dim=1, keepdim=True)
    if kind == "none":
        return torch.ones(raw.shape[0], 1, *size, device=raw.device)
    if kind == "constant":
        return raw.flatten(1).mean(dim=1).reshape(-1, *[1] * (raw.dim() - 1)).expand(-1, 1, *size)
    if kind == "raw":
        return upsample(raw, size)
    if kind == "shuffled":
        order = torch.rand(raw.flatten(1).shape, generator=rng, device=rng.device).argsort(dim=1).to(raw.device)
        raw = raw.flatten(1).gather(1, order).reshape(raw.shape)
    return normalise(upsample(raw, size))


def upsample(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Linear interpolation to the label's size, `[B, 1, *S / r] -> [B, 1, *S]`."""
    return F.interpolate(x, size=tuple(size), mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)


def normalise(x: Tensor) -> Tensor:
    """Shift each sample's map to be non-negative and scale it to mean 1; a flat map becomes 1 everywhere."""
    flat = x.flatten(1)
    flat = flat - flat.amin(dim=1, keepdim=True)
    mean = flat.mean(dim=1, keepdim=True)
    scaled = torch.where(mean > 1e-12, flat / mean.clamp_min(1e-12), torch.ones_like(flat))
    return scaled.reshape(x.shape)
