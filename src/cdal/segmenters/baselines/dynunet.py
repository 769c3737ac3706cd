"""A plain competitor at full strength: MONAI's DynUNet, shaped by the rules of nnU-Net.

Isensee et al.: "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 18,
2021: axes are halved until less than 8 voxels are left, an axis whose voxels are over twice as long as the shortest waits;
features double from 32 up to 512 (2D) or 320 (3D); instance normalisation, leaky ReLU, deep supervision whose weights halve from
level to level, Dice and cross-entropy.

Ours: the recipe's patch, augmentation, optimiser and schedule in place of nnU-Net's.
"""

from __future__ import annotations

from monai.networks.nets import DynUNet
from torch import Tensor, nn

from cdal.recipes.baselines import DynUNetSettings, kernels_and_strides
from cdal.recipes.settings import DataSettings
from cdal.segmenters.segmenter import Segmenter, Supervised

_MOST_FEATURES = {2: 512, 3: 320}


def build(settings: DynUNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool) -> Segmenter:
    """See `cdal.segmenters.build`."""
    kernels, strides = kernels_and_strides(data)
    most = _MOST_FEATURES[data.spatial_dims]
    network = DynUNet(
        data.spatial_dims,
        image_channels,
        classes,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(settings.features * 2**level, max(most, settings.features)) for level in range(len(strides))],
        norm_name=("instance", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=True,
        deep_supr_num=max(1, len(strides) - 2),
    )
    return Supervised(_Outputs(network), classes, decay=0.5)


class _Outputs(nn.Module):
    """DynUNet stacks its outputs, all enlarged to full resolution, along an axis of their own in training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor] | Tensor:
        output: Tensor = self.network(image)
        return list(output.unbind(dim=1)) if self.training else output
