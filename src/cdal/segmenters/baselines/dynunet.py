"""DynUNet, a strong plain baseline: MONAI's DynUNet, configured by the rules of nnU-Net.

Isensee et al.: "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 18, 2021. Axes are halved until fewer than 8 voxels are left. An axis
whose voxels are at least twice as long as the shortest is halved only later. Features double from
32 up to 512 (2D) or 320 (3D). The network has instance normalisation and leaky ReLU. It is trained
with Dice and cross-entropy and with deep supervision, whose weights halve from level to level.

Ours: patch, augmentation, optimiser and schedule come from the recipe instead of nnU-Net.
"""

from __future__ import annotations

from monai.networks.nets import DynUNet
from torch import Tensor, nn

from cdal.recipes.dynunet import DynUNetSettings, kernels_and_strides
from cdal.recipes.settings import DataSettings
from cdal.segmenters.segmenter import Segmenter, Supervised

_MOST_FEATURES = {2: 512, 3: 320}


def build(
    settings: DynUNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    kernels, strides = kernels_and_strides(data)
    most_features = _MOST_FEATURES[data.spatial_dims]
    network = DynUNet(
        data.spatial_dims,
        image_channels,
        classes,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[
            min(settings.features * 2**level, max(most_features, settings.features))
            for level in range(len(strides))
        ],
        norm_name=("instance", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=True,
        deep_supr_num=max(1, len(strides) - 2),
    )
    return Supervised(_Outputs(network), classes, decay=0.5)


class _Outputs(nn.Module):
    """Split the outputs in training, which DynUNet stacks along a new axis at full resolution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor] | Tensor:
        output: Tensor = self.network(image)
        return list(output.unbind(dim=1)) if self.training else output
