"""U-Net in two and in three dimensions, as MONAI's BasicUNet.

Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015. The network has 64 to 1024 features, two 3 x 3 convolutions per level, max-pooling and
2 x 2 up-convolutions. It has 31.0 M parameters.

Çiçek et al.: "3D U-Net: learning dense volumetric segmentation from sparse annotation", MICCAI
2016.

Ours:
- Convolutions are padded, so the mask is as large as the image.
- Instance normalisation is used, and Dice is added to the cross-entropy.
- BasicUNet keeps all features in the last up-convolution, which adds 0.2 % parameters.
- The 3D U-Net has four poolings; the authors' has three.
"""

from __future__ import annotations

from monai.networks.nets import BasicUNet

from cdal.recipes.baselines import UNetSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.segmenter import Segmenter, Supervised

NORM = ("instance", {"affine": True})


def build(
    settings: UNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    network = BasicUNet(
        data.spatial_dims,
        image_channels,
        classes,
        (*settings.channels, settings.channels[0]),
        ("relu", {"inplace": True}),
        NORM,
    )
    return Supervised(network, classes)
