"""The architecture that the variants of U-Net share.

It has a block at each level on the way down and on the way up, max-pooling and up-convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn


class UShape(nn.Module):
    """A U-Net of given blocks, from images `[B, C, *S]` to logits `[B, K, *S]`.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C, the number of image channels.
        classes: K, the number of classes.
        channels: number of features at each level, from full resolution downwards.
        block: function that makes a block from its numbers of input and output features. The block
            must keep the size.
    """

    def __init__(
        self,
        spatial_dims: int,
        image_channels: int,
        classes: int,
        channels: Sequence[int],
        block: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        conv, up = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        self.down = nn.ModuleList(map(block, [image_channels, *channels[:-1]], channels))
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        steps = list(zip(channels[:0:-1], channels[-2::-1], strict=True))  # deepest first
        self.enlarge = nn.ModuleList(up(deep, shallow, 2, 2) for deep, shallow in steps)
        self.up = nn.ModuleList(block(2 * shallow, shallow) for _, shallow in steps)
        self.head = conv(channels[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        skips: list[Tensor] = []
        h = image
        for level, block in enumerate(self.down):
            h = block(self.pool(h) if level else h)
            skips.append(h)
        for enlarge, block, skip in zip(self.enlarge, self.up, skips[-2::-1], strict=True):
            h = block(torch.cat([skip, enlarge(h)], dim=1))
        logits: Tensor = self.head(h)
        return logits
