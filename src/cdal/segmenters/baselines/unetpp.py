"""U-Net++, as MONAI's BasicUNetPlusPlus.

Zhou, Siddiquee, Tajbakhsh, Liang: "UNet++: a nested U-Net architecture for medical image
segmentation", DLMIA 2018. The network has nested, dense skip paths, 32 to 512 features, and deep
supervision of four branches. It has 9.04 M parameters. Prediction uses the paper's "accurate mode",
the mean of the four branches.

Ours: instance normalisation; Dice and cross-entropy.
"""

from __future__ import annotations

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import Tensor, nn

from cdal.recipes.baselines import UNetPlusPlusSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.segmenter import Segmenter, Supervised


def build(
    settings: UNetPlusPlusSettings,
    data: DataSettings,
    image_channels: int,
    classes: int,
    training: bool,
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    return Supervised(
        UNetPlusPlus(data.spatial_dims, image_channels, classes, settings.channels), classes
    )


class UNetPlusPlus(nn.Module):
    """The nested U-Net, from images `[B, C, *S]` to logits `[B, K, *S]`.

    In training, it returns the logits of all four branches.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C, the number of image channels.
        classes: K, the number of classes.
        channels: number of features at each of the five levels.
    """

    def __init__(
        self, spatial_dims: int, image_channels: int, classes: int, channels: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.nested = BasicUNetPlusPlus(
            spatial_dims,
            image_channels,
            classes,
            (*channels, channels[0]),
            deep_supervision=True,
            act=("relu", {"inplace": True}),
            norm=("instance", {"affine": True}),
        )

    def forward(self, image: Tensor) -> list[Tensor] | Tensor:
        """Compute the logits of each branch in training, otherwise the logarithm of their mean."""
        branches: list[Tensor] = self.nested(image)
        if self.training:
            return branches
        return torch.stack(branches).float().softmax(dim=2).mean(dim=0).clamp_min(1e-9).log()
