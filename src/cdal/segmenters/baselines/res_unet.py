"""Weighted Res-UNet.

Xiao, Lian, Luo, Li: "Weighted Res-UNet for high-quality retina vessel segmentation", ITME 2018: a U-Net whose double convolutions
are residual, trained with a cross-entropy that is weighted pixel by pixel.

The paper's number of parameters and the exact form of its weights are not known to us: the features are U-Net's, and a pixel
weighs as the inverse of its class's share in the batch (U-Net's w_c), so that all classes weigh alike. Ours: instance
normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping

from monai.networks.blocks import ResidualUnit
from torch import Tensor, nn

from cdal.recipes.baselines import ResUNetSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines.u_shape import UShape
from cdal.segmenters.segmenter import Segmenter, Supervised


def build(settings: ResUNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool) -> Segmenter:
    """See `cdal.segmenters.build`."""
    dims = data.spatial_dims

    def block(channels_in: int, channels_out: int) -> nn.Module:
        return ResidualUnit(dims, channels_in, channels_out, act=("relu", {"inplace": True}), norm=("instance", {"affine": True}))

    return Supervised(UShape(dims, image_channels, classes, settings.channels, block), classes, weighted_cross_entropy)


def weighted_cross_entropy(logits: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
    """The mean of w(x) * -log p(true class of x), where the weights of each class that occurs add up to the same.

    Args:
        logits: `[B, K, *S]`.
        truth: one-hot.
    """
    voxels = truth.transpose(0, 1).flatten(1).sum(dim=1)
    weights = (voxels > 0) / voxels.clamp_min(1) / (voxels > 0).sum()
    per_class = -(truth * logits.log_softmax(dim=1)).transpose(0, 1).flatten(1).sum(dim=1)
    return {"weighted_cross_entropy": (weights * per_class).sum()}
