"""The spatial attention map (Hejrati et al., MICCAI 2024, Sec. 2.2) and its controls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cdal.recipes.cdal import Attention
from cdal.segmenters.draws import rand


def attention_map(
    features: Tensor, size: torch.Size | tuple[int, ...], kind: Attention, rng: torch.Generator
) -> Tensor:
    """The factor A that multiplies the label before noise is added: x0_att = x0 * A.

    - `raw`: the paper's A_D, the mean of the discriminator's features over channels. It has no
      bounds. With trained discriminators it was mostly negative and tiny, which erases the label.
    - `normalised`: A_D shifted to be non-negative and scaled to mean 1. It moves weight between
      regions and keeps the total.
    - `shuffled`: the normalised map with its positions permuted. It has the same values but no
      spatial meaning.
    - `constant`: the mean of the raw map everywhere. It scales the input uniformly.
    - `none`: 1.

    Args:
        features: features F_i of the discriminator, `[B, C, *S / r]`.
        size: size `*S` of the label, to which the map is upsampled.
        kind: kind of the map.
        rng: random generator for `shuffled`.

    Returns:
        The factor `[B, 1, *S]`, without gradient.
    """
    raw = features.detach().float().mean(dim=1, keepdim=True)
    if kind == "none":
        return torch.ones(raw.shape[0], 1, *size, device=raw.device)
    if kind == "constant":
        return raw.flatten(1).mean(dim=1).reshape(-1, *[1] * (raw.dim() - 1)).expand(-1, 1, *size)
    if kind == "raw":
        return upsample(raw, size)
    if kind == "shuffled":
        order = rand(raw.flatten(1).shape, rng, raw).argsort(dim=1)
        raw = raw.flatten(1).gather(1, order).reshape(raw.shape)
    return normalise(upsample(raw, size))


def upsample(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Interpolate linearly to the size of the label, `[B, 1, *S / r] -> [B, 1, *S]`."""
    return F.interpolate(
        x, size=tuple(size), mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False
    )


def normalise(x: Tensor) -> Tensor:
    """Shift each sample's map to be non-negative and scale it to mean 1; a flat map becomes 1."""
    flat = x.flatten(1)
    flat = flat - flat.amin(dim=1, keepdim=True)
    mean = flat.mean(dim=1, keepdim=True)
    scaled = torch.where(mean > 1e-12, flat / mean.clamp_min(1e-12), torch.ones_like(flat))
    return scaled.reshape(x.shape)
