"""A plain competitor at full strength: MONAI's DynUNet, shaped by the rules of nnU-Net.

Isensee et al.: "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 18,
2021: axes are halved until less than 8 voxels are left, an axis whose voxels are over twice as long as the shortest waits;
features double from 32 up to 512 (2D) or 320 (3D); instance normalisation, leaky ReLU, deep supervision whose weights halve from
level to level, Dice and cross-entropy.

Ours: the recipe's patch, augmentation, optimiser and schedule in place of nnU-Net's.
"""

from __future__ import annotations

from dataclasses import dataclass

from monai.networks.nets import DynUNet
from torch import Tensor, nn

from cdal.recipes.settings import DataSettings, SegmenterSettings, need
from cdal.segmenters.segmenter import Segmenter, Supervised

_SMALLEST = 4


_MOST_FEATURES = {2: 512, 3: 320}


@dataclass(frozen=True)
class DynUNetSettings(SegmenterSettings):
    """DynUNet.

    Attributes:
        features: at full resolution.
    """

    name: str = "dynunet"
    features: int = 32

    def multiple(self, data: DataSettings) -> int:
        """What the axis that is halved most often needs."""
        poolings = zip(*_strides(data)[1], strict=True)
        return max(2 ** list(axis).count(2) for axis in poolings)

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.features", lambda features: features >= 1, "1 or more")
        levels = len(_strides(data)[1])
        need(data, "data.size", lambda _: levels >= 3, f"such that some axis can be halved twice and leave {_SMALLEST} (dynunet)")

    def build(self, data: DataSettings, image_channels: int, classes: int, training: bool) -> Segmenter:
        """See `SegmenterSettings.build`."""
        kernels, strides = _strides(data)
        most = _MOST_FEATURES[data.spatial_dims]
        network = DynUNet(
            data.spatial_dims,
            image_channels,
            classes,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=[min(self.features * 2**level, max(most, self.features)) for level in range(len(strides))],
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


def _strides(data: DataSettings) -> tuple[list[list[int]], list[list[int]]]:
    """Kernel and stride of each level, by axis; the first level has stride 1.

    Across slices that are twice as thick as pixels are wide there is no convolution, until pixels have grown so far.
    """
    size = list(data.size)
    spacing = list(data.spacing or (1.0, 1.0, 1.0))
    if data.spatial_dims == 2:
        spacing = [s for axis, s in enumerate(spacing) if axis != data.slice_axis]
    kernel = [3 if length < 2 * min(spacing) else 1 for length in spacing]
    kernels, strides = [kernel], [[1] * len(size)]
    while can := [axis for axis, s in enumerate(size) if s >= 2 * _SMALLEST and s % 2 == 0]:
        shortest = min(spacing[axis] for axis in can)
        halved = [axis for axis in can if spacing[axis] < 2 * shortest]
        stride = [2 if axis in halved else 1 for axis in range(len(size))]
        size = [s // step for s, step in zip(size, stride, strict=True)]
        spacing = [length * step for length, step in zip(spacing, stride, strict=True)]
        kernel = [3 if k == 3 or length < 2 * min(spacing) else 1 for k, length in zip(kernel, spacing, strict=True)]
        strides.append(stride)
        kernels.append(kernel)
    return kernels, strides
