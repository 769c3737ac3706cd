"""U-Net in two and in three dimensions, as MONAI's BasicUNet.

Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015: 64 to 1024 features,
two 3 x 3 convolutions a level, max-pooling, 2 x 2 up-convolutions: 31.0 M parameters. Çiçek et al.: "3D U-Net: learning dense
volumetric segmentation from sparse annotation", MICCAI 2016.

Ours: padded convolutions, so that the mask is as large as the image; instance normalisation; Dice beside the cross-entropy.
BasicUNet keeps all features in the last up-convolution, 0.2 % more parameters. The 3D U-Net has four poolings where its authors
have three.
"""

from __future__ import annotations

from dataclasses import dataclass

from monai.networks.nets import BasicUNet

from cdal.recipes.settings import DataSettings, SegmenterSettings, need_channels
from cdal.segmenters.segmenter import Segmenter, Supervised

NORM = ("instance", {"affine": True})


@dataclass(frozen=True)
class UNetSettings(SegmenterSettings):
    """U-Net.

    Attributes:
        channels: features at the five levels.
    """

    name: str = "unet"
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """Four poolings."""
        return 16

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self, exactly=5)

    def build(self, data: DataSettings, image_channels: int, classes: int, training: bool) -> Segmenter:
        """See `SegmenterSettings.build`."""
        network = BasicUNet(
            data.spatial_dims, image_channels, classes, (*self.channels, self.channels[0]), ("relu", {"inplace": True}), NORM
        )
        return Supervised(network, classes)


@dataclass(frozen=True)
class UNet3DSettings(UNetSettings):
    """3D U-Net."""

    name: str = "unet-3d"
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)

    dims = (3,)
