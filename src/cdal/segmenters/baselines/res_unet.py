"""Weighted Res-UNet.

Xiao, Lian, Luo, Li: "Weighted Res-UNet for high-quality retina vessel segmentation", ITME 2018. The
network is a U-Net with residual double convolutions, trained with a pixel-weighted cross-entropy.

We know neither the paper's number of parameters nor the exact form of its weights. The numbers of
features are those of U-Net. The weight of a pixel is the inverse of its class's share of the batch
(U-Net's w_c), so all classes have the same total weight. Also ours: instance normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping

from monai.networks.blocks import ResidualUnit
from torch import Tensor, nn

from cdal.recipes.baselines import ResUNetSettings
from cdal.recipes.settings import DataSettings
from cdal.runtime.execution import ranks
from cdal.segmenters.baselines.u_shape import UShape
from cdal.segmenters.segmenter import Segmenter, Supervised


def build(
    settings: ResUNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    dims = data.spatial_dims

    def block(channels_in: int, channels_out: int) -> nn.Module:
        return ResidualUnit(
            dims,
            channels_in,
            channels_out,
            act=("relu", {"inplace": True}),
            norm=("instance", {"affine": True}),
        )

    return Supervised(
        UShape(dims, image_channels, classes, settings.channels, block),
        classes,
        weighted_cross_entropy,
    )


def weighted_cross_entropy(logits: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
    """The weighted mean of -log p(true class); each class in the batch has the same total weight.

    Args:
        logits: logits `[B, K, *S]`.
        truth: one-hot truth `[B, K, *S]`.
    """
    voxels = ranks.total(truth.transpose(0, 1).flatten(1).sum(dim=1))
    weights = (voxels > 0) / voxels.clamp_min(1) / (voxels > 0).sum()
    per_class = -(truth * logits.log_softmax(dim=1)).transpose(0, 1).flatten(1).sum(dim=1)
    return {"weighted_cross_entropy": ranks.total((weights * per_class).sum())}
