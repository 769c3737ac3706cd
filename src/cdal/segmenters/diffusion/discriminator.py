"""Time-dependent discriminator D(x_{t-1}, x_t, t): Hejrati et al., MICCAI 2024, Sec. 2.2, 3.2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.segmenters.diffusion.blocks import (
    Activation,
    Modulation,
    ResidualBlock,
    convolution,
    group_norm,
)


class Discriminator(nn.Module):
    """Residual blocks like those of the generator's encoder.

    Each level after the first halves the resolution.

    Args:
        spatial_dims: 2 or 3.
        label_channels: L, the number of label channels.
        channels: number of features at each level.
        embedding: length of the embedding of t.
        fold: number of pixels along an axis that are folded into channels of the labels; 1, as in
            the paper, is no folding.
        feature_downsample: factor by which the features for the attention map are smaller than the
            label. The nearest existing level is used.
        activation: activation of the blocks.
    """

    def __init__(
        self,
        spatial_dims: int,
        label_channels: int,
        channels: Sequence[int],
        embedding: int,
        fold: int = 1,
        feature_downsample: int = 8,
        activation: Activation = F.silu,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.modulation = Modulation(0, embedding)
        kernel = 3 if fold == 1 else 1
        self.stem = convolution(
            spatial_dims, 2 * label_channels * fold**spatial_dims, channels[0], kernel
        )
        inputs = [channels[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            ResidualBlock(
                spatial_dims,
                channels_in,
                channels_out,
                embedding,
                1 if level == 0 else 2,
                activation,
            )
            for level, (channels_in, channels_out) in enumerate(zip(inputs, channels, strict=True))
        )
        downsamples = [fold * 2**level for level in range(len(channels))]
        self.feature_level = min(
            range(len(channels)), key=lambda level: abs(downsamples[level] - feature_downsample)
        )
        self.norm = group_norm(channels[-1])
        self.head = nn.Linear(channels[-1], 1)

    def forward(self, x_previous: Tensor, x_t: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Judge how real the pair looks.

        Args:
            x_previous: x_{t-1}, folded, `[B, L * fold^n, *S / fold]`.
            x_t: x_t, folded, of the same shape.
            level: noise level s = t / T, `[B]`.

        Returns:
            Logits `[B]`, positive for real pairs, and the features F_i for the attention map,
            `[B, C, *S / r]`.
        """
        embedding = self.modulation(level, None)
        h = self.stem(torch.cat([x_previous, x_t], dim=1))
        features = h
        for depth, block in enumerate(self.blocks):
            h = block(h, embedding)
            features = h if depth == self.feature_level else features
        pooled = self.activation(self.norm(h)).flatten(2).mean(dim=2)
        return self.head(pooled).squeeze(1).float(), features


def r1_penalty(
    discriminator: Discriminator, x_previous: Tensor, x_t: Tensor, level: Tensor
) -> Tensor:
    """Half the squared gradient of D on real pairs (Mescheder et al., ICML 2018), in float32."""
    x_previous = x_previous.detach().requires_grad_(True)
    with torch.autocast(x_previous.device.type, enabled=False):
        logits, _ = discriminator(x_previous, x_t, level)
        (gradient,) = torch.autograd.grad(logits.sum(), x_previous, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2
