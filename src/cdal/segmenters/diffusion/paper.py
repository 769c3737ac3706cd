"""The paper's generator (Hejrati et al., MICCAI 2024, Fig. 1 and Sec. 3.2), our implementation.

A residual encoder keeps the image at full resolution. Its features are added to those of x_t at the
stem of a U-Net. The U-Net has residual blocks, and self-attention at its low resolutions. z
(through a mapping network) and t (sinusoidal) modulate every block of the U-Net by adaptive group
normalisation. The paper gives no table of channels, so they are settings here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.segmenters.diffusion.blocks import (
    Modulation,
    ResidualBlock,
    SelfAttention,
    convolution,
    group_norm,
    zeroed,
)
from cdal.segmenters.diffusion.generator import Features, Generator

ENCODER_BLOCKS = 3
BLOCKS_A_LEVEL = 2
ATTENTION_LEVELS = 2


class ImageEncoder(nn.Module):
    """Residual blocks at full resolution, `[B, C, *S] -> [B, width, *S]`."""

    def __init__(self, spatial_dims: int, image_channels: int, width: int) -> None:
        super().__init__()
        self.stem = convolution(spatial_dims, image_channels, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                group_norm(width),
                nn.SiLU(),
                convolution(spatial_dims, width, width),
                group_norm(width),
                nn.SiLU(),
                zeroed(convolution(spatial_dims, width, width)),
            )
            for _ in range(ENCODER_BLOCKS)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute the features that are added at the stem."""
        h = self.stem(image)
        for block in self.blocks:
            h = h + block(h)
        return h


class Stage(nn.Module):
    """A residual block, followed by self-attention if `attend` is set."""

    def __init__(
        self, spatial_dims: int, channels_in: int, channels_out: int, embedding: int, attend: bool
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(spatial_dims, channels_in, channels_out, embedding)
        self.attention = SelfAttention(channels_out) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block, then attention."""
        return self.attention(self.block(x, embedding))


class PaperGenerator(Generator):
    """The paper's network, split into `encode` and `denoise`.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C, the number of image channels.
        label_channels: L, the number of label channels: 1 or the number of classes.
        channels: number of features at each level, from full resolution downwards. The last two
            levels have self-attention.
        latent: length of z; 0 leaves z out.
        embedding: length of the embedding of z and t.
    """

    def __init__(
        self,
        spatial_dims: int,
        image_channels: int,
        label_channels: int,
        channels: Sequence[int],
        latent: int,
        embedding: int,
    ) -> None:
        super().__init__()
        self.noise_channels = label_channels
        attends = [level >= len(channels) - ATTENTION_LEVELS for level in range(len(channels))]
        self.encoder = ImageEncoder(spatial_dims, image_channels, channels[0])
        self.modulation = Modulation(latent, embedding)
        self.stem = convolution(spatial_dims, label_channels, channels[0])
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        skips = [channels[0]]
        width = channels[0]
        for level, channels_out in enumerate(channels):
            if level:
                self.shrink.append(ResidualBlock(spatial_dims, width, width, embedding, stride=2))
                skips.append(width)
            for _ in range(BLOCKS_A_LEVEL):
                self.down.append(
                    Stage(spatial_dims, width, channels_out, embedding, attends[level])
                )
                width = channels_out
                skips.append(width)
        self.middle = nn.ModuleList(
            [
                Stage(spatial_dims, width, width, embedding, True),
                Stage(spatial_dims, width, width, embedding, False),
            ]
        )
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level in reversed(range(len(channels))):
            for _ in range(BLOCKS_A_LEVEL + 1):
                self.up.append(
                    Stage(
                        spatial_dims,
                        width + skips.pop(),
                        channels[level],
                        embedding,
                        attends[level],
                    )
                )
                width = channels[level]
            if level:
                self.grow.append(convolution(spatial_dims, width, width))
        self.levels = len(channels)
        self.norm = group_norm(width)
        self.head = convolution(spatial_dims, width, label_channels)

    def encode(self, image: Tensor) -> Features:
        """See `Generator.encode`; without a coarse segmentation."""
        return Features(self.encoder(image))

    def denoise_seen(self, seen: Tensor, embedding: Tensor, features: Features) -> Tensor:
        """See `Generator.denoise_seen`. The output has no bounds: the paper names no activation."""
        images = features.condition.shape[0]
        h = (self.stem(seen).unflatten(0, (-1, images)) + features.condition).flatten(0, 1)
        skips = [h]
        for depth in range(self.levels):
            if depth:
                h = self.shrink[depth - 1](h, embedding)
                skips.append(h)
            for stage in self.down[depth * BLOCKS_A_LEVEL : (depth + 1) * BLOCKS_A_LEVEL]:
                h = stage(h, embedding)
                skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding)
        for depth in range(self.levels):
            for stage in self.up[depth * (BLOCKS_A_LEVEL + 1) : (depth + 1) * (BLOCKS_A_LEVEL + 1)]:
                h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
            if depth < self.levels - 1:
                h = self.grow[depth](F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.head(F.silu(self.norm(h))).float()
