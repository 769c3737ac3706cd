"""MSU-Net.

Su, Zhang, Liu, Cheng: "MSU-Net: multi-scale U-Net for 2D medical image segmentation", Frontiers in
Genetics 12, 2021. The network is a U-Net with 32 to 512 features. Each double convolution is
replaced by two parallel sequences, of 3 x 3 and of 7 x 7 convolutions, which a 1 x 1 convolution
joins. It has 47.1 M parameters and takes 152 GFLOP at 256 x 256.

Ours: instance normalisation; Dice and cross-entropy.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from cdal.recipes.baselines import MSUNetSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines.u_shape import UShape
from cdal.segmenters.segmenter import Segmenter, Supervised


def build(
    settings: MSUNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    dims = data.spatial_dims

    def block(channels_in: int, channels_out: int) -> nn.Module:
        return MultiScaleBlock(dims, channels_in, channels_out, settings.kernels)

    return Supervised(UShape(dims, image_channels, classes, settings.channels, block), classes)


class MultiScaleBlock(nn.Module):
    """Two parallel double convolutions with different kernel sizes, joined by a convolution.

    Shapes: `[B, Cin, *S] -> [B, Cout, *S]`.
    """

    def __init__(
        self, spatial_dims: int, channels_in: int, channels_out: int, kernels: tuple[int, int]
    ) -> None:
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
            nn.Sequential(convolution(channels_in, kernel), convolution(channels_out, kernel))
            for kernel in kernels
        )
        self.join = convolution(len(kernels) * channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        joined: Tensor = self.join(torch.cat([scale(x) for scale in self.scales], dim=1))
        return joined
