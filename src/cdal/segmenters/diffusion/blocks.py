"""Layers that the generators and the discriminator share.

Symbols in shapes: B batch size, C features, E length of the embedding, `*S` two or three spatial
axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]

leaky_relu = partial(F.leaky_relu, negative_slope=0.01, inplace=True)
"""Activation of the fast networks. On a CPU, SiLU takes nine times as long."""

_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def convolution(
    spatial_dims: int,
    channels_in: int,
    channels_out: int,
    kernel: int = 3,
    stride: int = 1,
    bias: bool = True,
) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the size, or divides it by the stride."""
    kind = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    return kind(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=bias)


def transposed_convolution(spatial_dims: int, channels_in: int, channels_out: int) -> nn.Module:
    """A transposed convolution that doubles the size."""
    kind = nn.ConvTranspose2d if spatial_dims == 2 else nn.ConvTranspose3d
    return kind(channels_in, channels_out, 2, stride=2, bias=False)


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance normalisation with learned scale and shift.

    It is group normalisation with one channel per group, which is two to six times as fast on a
    CPU.
    """
    return nn.GroupNorm(channels, channels)


def zeroed(layer: nn.Module) -> nn.Module:
    """Set all parameters of a layer to zero, so that its residual block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    """Group normalisation with up to 32 groups and, if possible, at least 4 channels per group."""
    groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, affine=affine)


def space_to_depth(x: Tensor, fold: int) -> Tensor:
    """Fold blocks of `fold` pixels along each axis into channels.

    Shapes: `[B, C, *S] -> [B, C * fold^n, *S / fold]` for n spatial axes. The order of the channels
    is that of `torch.pixel_unshuffle`, which does the same for two axes.
    """
    if fold == 1:
        return x
    batch, channels, *space = x.shape
    n = len(space)
    split = x.reshape(batch, channels, *[size for s in space for size in (s // fold, fold)])
    coarse, fine = range(2, 2 + 2 * n, 2), range(3, 3 + 2 * n, 2)
    return split.permute(0, 1, *fine, *coarse).reshape(
        batch, channels * fold**n, *[s // fold for s in space]
    )


def depth_to_space(x: Tensor, fold: int) -> Tensor:
    """The inverse of `space_to_depth`, `[B, C * fold^n, *S] -> [B, C, *S * fold]`."""
    if fold == 1:
        return x
    batch, channels, *space = x.shape
    n = len(space)
    split = x.reshape(batch, channels // fold**n, *[fold] * n, *space)
    order = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
    return split.permute(0, 1, *order).reshape(
        batch, channels // fold**n, *[s * fold for s in space]
    )


def sinusoidal_embedding(level: Tensor, length: int) -> Tensor:
    """Sines and cosines of the noise level (Sec. 3.2), `[B] -> [B, length]`.

    The level is s = t / T, between 0 and 1. The noise depends on t / T alone. With t / T instead of
    t, one network can therefore be used with any number of steps.
    """
    half = length // 2
    frequencies = torch.exp(
        -math.log(10_000.0) * torch.arange(half, device=level.device, dtype=torch.float32) / half
    )
    angles = 1000.0 * level.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, length % 2))


class Modulation(nn.Module):
    """Embedding of the noise level and the latent z (Sec. 2.3), `([B], [B, L]) -> [B, E]`.

    A mapping network transforms z. Its output is added to the embedded level.

    Args:
        latent: L, the length of z; 0 leaves z out.
        length: E, the length of the embedding.
        layers: number of layers of the mapping network.
    """

    def __init__(self, latent: int, length: int, layers: int = 3) -> None:
        super().__init__()
        self.length = length
        self.level = nn.Sequential(nn.Linear(length, length), nn.SiLU(), nn.Linear(length, length))
        deeper = [
            part for _ in range(layers - 1) for part in (nn.SiLU(), nn.Linear(length, length))
        ]
        self.mapping = nn.Sequential(nn.Linear(latent, length), *deeper) if latent else None

    def forward(self, level: Tensor, z: Tensor | None) -> Tensor:
        """Compute the embedding that modulates every block."""
        embedding = self.level(sinusoidal_embedding(level, self.length))
        if self.mapping is not None and z is not None:
            embedding = embedding + self.mapping(F.normalize(z, dim=1) * math.sqrt(z.shape[1]))
        return F.silu(embedding)


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation whose scale and shift come from the embedding.

    Shapes: `([B, C, *S], [B, E]) -> [B, C, *S]`.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, affine=False)
        self.scale_shift = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Normalise and modulate."""
        scale, shift = (
            self.scale_shift(embedding)
            .reshape(*embedding.shape[:1], -1, *[1] * (x.dim() - 2))
            .chunk(2, dim=1)
        )
        return torch.addcmul(shift, self.norm(x), 1 + scale)


class ResidualBlock(nn.Module):
    """A residual block of two convolutions, each after modulated normalisation and activation.

    Shapes: `[B, Cin, *S] -> [B, Cout, *S / stride]`. The bypass averages the input over the stride.
    If Cin and Cout differ, a 1-wide convolution brings it to Cout features.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels_in: int,
        channels_out: int,
        embedding: int,
        stride: int = 1,
        activation: Activation = F.silu,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.norm1 = AdaptiveGroupNorm(channels_in, embedding)
        self.conv1 = convolution(spatial_dims, channels_in, channels_out, 3, stride)
        self.norm2 = AdaptiveGroupNorm(channels_out, embedding)
        self.conv2 = zeroed(convolution(spatial_dims, channels_out, channels_out, 3))
        self.shrink = _POOL[spatial_dims](stride, ceil_mode=True) if stride > 1 else nn.Identity()
        same = channels_in == channels_out
        self.bypass = (
            nn.Identity() if same else convolution(spatial_dims, channels_in, channels_out, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block."""
        h = self.conv1(self.activation(self.norm1(x, embedding)))
        h = self.conv2(self.activation(self.norm2(h, embedding)))
        return self.bypass(self.shrink(x)) + h


class SelfAttention(nn.Module):
    """Self-attention of all positions, added to the input, `[B, C, *S] -> [B, C, *S]`."""

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention."""
        batch, channels, *space = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = (
            self.to_qkv(tokens)
            .reshape(batch, -1, 3, self.heads, channels // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        attended = (
            F.scaled_dot_product_attention(*qkv.unbind(0))
            .transpose(1, 2)
            .reshape(batch, -1, channels)
        )
        return x + self.out(attended).transpose(1, 2).reshape(batch, channels, *space)
