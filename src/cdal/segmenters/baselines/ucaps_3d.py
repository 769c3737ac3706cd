"""3D-UCaps: capsules on the way down, convolutions on the way up.

Nguyen, Hua, Le: "3D-UCaps: 3D capsules UNet for volumetric image segmentation", MICCAI 2021. The
network starts with three dilated 5 x 5 x 5 convolutions. The encoder has 3D convolutional capsules
with separate weights for each input type, and dynamic routing. It ends with a capsule of 64 atoms
for each class, at an eighth of the resolution. The decoder is convolutional, with skip connections.
The loss is the margin loss on the class capsules, the cross-entropy, and 0.1 times the
reconstruction loss. The network has about 6.5 M parameters.

Ours: the agreement is the inner product, as in dynamic routing, whereas the authors' program uses a
cosine. Dice is added to the cross-entropy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.baselines import UCaps3DSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines.capsules import (
    ConvolutionalCapsules,
    lengths,
    margin_loss,
    reconstruction_head,
    reconstruction_loss,
)
from cdal.segmenters.losses import dice_and_cross_entropy_of_logits
from cdal.segmenters.segmenter import Deterministic, Segmenter, Turn, one_hot, turn


def build(
    settings: UCaps3DSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    return UCaps3D(CapsuleUNet3D(image_channels, classes, settings.iterations), classes, settings)


class UCaps3D(Deterministic):
    """A capsule U-Net, trained with Dice, cross-entropy, margin loss and reconstruction.

    Dice and cross-entropy are computed on the decoder's output, the margin loss on the capsules.

    Args:
        network: network of capsules and decoder.
        classes: K, the number of classes.
        settings: settings with the weights of the losses.
    """

    network: CapsuleUNet3D

    def __init__(self, network: CapsuleUNet3D, classes: int, settings: UCaps3DSettings) -> None:
        super().__init__()
        self.network, self.classes, self.settings = network, classes, settings

    def kind(self, step: int) -> Hashable:
        """See `Segmenter.kind`; all steps have the same kind."""
        return "alike"

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`."""
        truth = one_hot(batch.label, self.classes)
        logits, capsules, features = self.network.all(batch.image)
        terms = dice_and_cross_entropy_of_logits(logits.float(), truth)
        coarse = F.interpolate(truth, size=capsules.shape[3:], mode="trilinear")
        terms["margin"] = self.settings.margin * margin_loss(lengths(capsules), coarse)
        guess = self.network.reconstruction(features).float()
        terms["reconstruction"] = self.settings.reconstruction * reconstruction_loss(
            guess, batch.image, truth
        )
        yield turn("network", terms)

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`; returns one vote."""
        return self.network(image).float().softmax(dim=1)[None]


class CapsuleUNet3D(nn.Module):
    """Capsule encoder and convolutional decoder, from images `[B, C, *S]` to logits `[B, K, *S]`.

    Args:
        image_channels: C, the number of image channels.
        classes: K, the number of classes.
        iterations: number of routing iterations.
    """

    def __init__(self, image_channels: int, classes: int, iterations: int) -> None:
        super().__init__()

        def capsules(
            capsules_in: tuple[int, int],
            capsules_out: tuple[int, int],
            stride: int,
            iterations: int = iterations,
        ) -> nn.Module:
            return ConvolutionalCapsules(
                3, capsules_in, capsules_out, 3, stride, iterations, shared=False
            )

        self.features = nn.Sequential(
            _convolution(image_channels, 16, 5, act="prelu"),
            _convolution(16, 32, 5, dilation=2, act="prelu"),
            _convolution(32, 64, 5, dilation=2, act="tanh"),
        )
        self.level_1 = capsules((1, 64), (16, 4), 1, 1)
        self.level_2 = nn.Sequential(capsules((16, 4), (16, 8), 2), capsules((16, 8), (16, 8), 1))
        self.level_4 = nn.Sequential(capsules((16, 8), (8, 16), 2), capsules((8, 16), (8, 16), 1))
        self.level_8 = nn.Sequential(
            capsules((8, 16), (8, 32), 2), capsules((8, 32), (classes, 64), 1)
        )
        self.to_quarter, self.join_quarter = (
            nn.ConvTranspose3d(64 * classes, 256, 2, 2),
            _convolution(384, 128, 3),
        )
        self.to_half, self.join_half = nn.ConvTranspose3d(128, 128, 2, 2), _convolution(256, 64, 3)
        self.to_full = nn.ConvTranspose3d(64, 64, 2, 2)
        self.head = nn.Conv3d(128, classes, 1)
        self.reconstruction = reconstruction_head(3, 128, image_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        return self.all(image)[0]

    def all(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the logits and the inputs of the other losses.

        Returns:
            Logits `[B, K, *S]`, class capsules `[B, K, 64, *S / 8]` and last features
            `[B, 128, *S]`.
        """
        full = self.level_1(self.features(image)[:, None])
        half = self.level_2(full)
        quarter = self.level_4(half)
        capsules: Tensor = self.level_8(quarter)
        h = self.to_quarter(capsules.flatten(1, 2))
        h = self.to_half(self.join_quarter(torch.cat([h, quarter.flatten(1, 2)], dim=1)))
        h = self.to_full(self.join_half(torch.cat([h, half.flatten(1, 2)], dim=1)))
        h = torch.cat([h, full.flatten(1, 2)], dim=1)
        return self.head(h), capsules, h


def _convolution(
    channels_in: int, channels_out: int, kernel: int, dilation: int = 1, act: str = "relu"
) -> nn.Module:
    return Convolution(
        3,
        channels_in,
        channels_out,
        kernel_size=kernel,
        dilation=dilation,
        act=act,
        norm=("instance", {"affine": True}),
        bias=False,
    )
