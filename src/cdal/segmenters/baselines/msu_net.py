"""MSU-Net.

Su, Zhang, Liu, Cheng: "MSU-Net: multi-scale U-Net for 2D medical image segmentation", Frontiers in Genetics 12, 2021: a U-Net of
32 to 512 features whose double convolutions are two sequences side by side, of 3 x 3 and of 7 x 7, joined by a 1 x 1 convolution:
47.1 M parameters, 152 GFLOP at 256 x 256.

Ours: instance normalisation; Dice and cross-entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from cdal.recipes.settings import DataSettings, SegmenterSettings, need, need_channels
from cdal.segmenters.baselines.u_shape import UShape
from cdal.segmenters.segmenter import Segmenter, Supervised


@dataclass(frozen=True)
class MSUNetSettings(SegmenterSettings):
    """MSU-Net.

    Attributes:
        channels: features at each level.
        kernels: of the two sequences of convolutions.
    """

    name: str = "msu-net"
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    kernels: tuple[int, int] = (3, 7)

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """A pooling between levels."""
        return 2 ** (len(self.channels) - 1)

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self)
        odd = "two odd numbers of 1 or more"
        need(self, "segmenter.kernels", lambda kernels: all(k >= 1 and k % 2 == 1 for k in kernels), odd)

    def build(self, data: DataSettings, image_channels: int, classes: int, training: bool) -> Segmenter:
        """See `SegmenterSettings.build`."""
        dims = data.spatial_dims

        def block(channels_in: int, channels_out: int) -> nn.Module:
            return MultiScaleBlock(dims, channels_in, channels_out, self.kernels)

        return Supervised(UShape(dims, image_channels, classes, self.channels, block), classes)


class MultiScaleBlock(nn.Module):
    """Two double convolutions with kernels of different size, joined, `[B, Cin, *S] -> [B, Cout, *S]`."""

    def __init__(self, spatial_dims: int, channels_in: int, channels_out: int, kernels: tuple[int, int]) -> None:
        super().__init__()

        def convolution(features: int, kernel: int) -> nn.Module:
            return Convolution(
                spatial_dims,
                features,
                channels_out,
                kernel_size=kernel,
                act=("relu", {"inplace": True}),
                norm=("instance", {"affine": True}),
            )

        self.scales = nn.ModuleList(
            nn.Sequential(convolution(channels_in, kernel), convolution(channels_out, kernel)) for kernel in kernels
        )
        self.join = convolution(len(kernels) * channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        joined: Tensor = self.join(torch.cat([scale(x) for scale in self.scales], dim=1))
        return joined
