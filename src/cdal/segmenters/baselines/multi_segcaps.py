"""Multi-SegCaps: the capsule U-Net SegCaps with a capsule for each class, on five slices at a time.

Survarachakan, Johansen, Pedersen, Amani, Lindseth: "Capsule nets for complex medical image
segmentation tasks", CVCS 2020. The paper builds on SegCaps R3 of LaLonde & Bagci, "Capsules for
object segmentation", arXiv:1804.04241, 2018. The network has 5 x 5 convolutional capsules, whose
weights all input types share, with three iterations of locally constrained dynamic routing. The
class with the longest capsule is predicted. The middle slice is reconstructed from the capsules of
the true class. The network has about 1.4 M parameters.

Ours: margin loss and soft Dice on the lengths (we do not know which loss the authors used). The
reconstruction covers the voxels inside the classes and has a weight of 0.1.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.baselines import MultiSegCapsSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines.capsules import (
    ConvolutionalCapsules,
    lengths,
    margin_loss,
    reconstruction_head,
    reconstruction_loss,
    shares,
)
from cdal.segmenters.losses import dice_and_cross_entropy
from cdal.segmenters.segmenter import Deterministic, Segmenter, Turn, one_hot, turn


def build(
    settings: MultiSegCapsSettings,
    data: DataSettings,
    image_channels: int,
    classes: int,
    training: bool,
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    slices = 2 * data.neighbours + 1
    network = SegCaps(image_channels, image_channels // slices, classes, settings.iterations)
    return MultiSegCaps(network, classes, settings.reconstruction)


class MultiSegCaps(Deterministic):
    """SegCaps, trained with margin loss, Dice and reconstruction. It predicts by capsule lengths.

    Args:
        network: network of capsules.
        classes: K, the number of classes.
        reconstruction: weight of the reconstruction loss.
    """

    network: SegCaps

    def __init__(self, network: SegCaps, classes: int, reconstruction: float) -> None:
        super().__init__()
        self.network, self.classes, self.reconstruction = network, classes, reconstruction

    def kind(self, step: int) -> Hashable:
        """See `Segmenter.kind`; all steps have the same kind."""
        return "alike"

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`."""
        truth = one_hot(batch.label, self.classes)
        capsules = self.network(batch.image)
        length = lengths(capsules)
        terms = {"margin": margin_loss(length, truth)} | dice_and_cross_entropy(
            shares(length), truth, cross_entropy=0
        )
        if self.reconstruction:
            slices = batch.image.chunk(batch.image.shape[1] // self.network.slice_channels, dim=1)
            guess = self.network.reconstruct(capsules, truth).float()
            loss = reconstruction_loss(guess, slices[len(slices) // 2], truth)
            terms["reconstruction"] = self.reconstruction * loss
        yield turn("network", terms)

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`; returns one vote."""
        return shares(lengths(self.network(image)))[None]


class SegCaps(nn.Module):
    """The capsule U-Net, `[B, C, H, W] -> [B, K, 16, H, W]`.

    Args:
        image_channels: C, the number of channels of all slices together.
        slice_channels: number of channels of one slice.
        classes: K, the number of classes.
        iterations: number of routing iterations.
    """

    def __init__(
        self, image_channels: int, slice_channels: int, classes: int, iterations: int
    ) -> None:
        super().__init__()
        self.slice_channels = slice_channels

        def capsules(
            capsules_in: tuple[int, int],
            capsules_out: tuple[int, int],
            stride: int = 1,
            iterations: int = iterations,
        ) -> nn.Module:
            return ConvolutionalCapsules(2, capsules_in, capsules_out, 5, stride, iterations)

        def enlarged(capsules_in: tuple[int, int], capsules_out: tuple[int, int]) -> nn.Module:
            return ConvolutionalCapsules(
                2, capsules_in, capsules_out, 4, 2, iterations, enlarge=True
            )

        self.first = nn.Sequential(
            nn.Conv2d(image_channels, 16, 5, padding=2), nn.ReLU(inplace=True)
        )
        self.level_2 = nn.Sequential(capsules((1, 16), (2, 16), 2, 1), capsules((2, 16), (4, 16)))
        self.level_4 = nn.Sequential(capsules((4, 16), (4, 32), 2), capsules((4, 32), (8, 32)))
        self.level_8 = nn.Sequential(capsules((8, 32), (8, 64), 2), capsules((8, 64), (8, 32)))
        self.to_quarter, self.join_quarter = enlarged((8, 32), (8, 32)), capsules((16, 32), (4, 32))
        self.to_half, self.join_half = enlarged((4, 32), (4, 16)), capsules((8, 16), (4, 16))
        self.to_full = enlarged((4, 16), (4, 16))
        self.classes = ConvolutionalCapsules(2, (5, 16), (classes, 16), 1, 1, iterations)
        self.reconstruction = reconstruction_head(2, 16 * classes, slice_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Compute a capsule for each class and pixel."""
        first = self.first(image)[:, None]
        half = self.level_2(first)
        quarter = self.level_4(half)
        up = self.to_quarter(self.level_8(quarter))
        up = self.to_half(self.join_quarter(torch.cat([up, quarter], dim=1)))
        up = self.to_full(self.join_half(torch.cat([up, half], dim=1)))
        capsules: Tensor = self.classes(torch.cat([up, first.to(up.dtype)], dim=1))
        return capsules

    def reconstruct(self, capsules: Tensor, truth: Tensor) -> Tensor:
        """Reconstruct the middle slice from the capsules of the true class alone."""
        image: Tensor = self.reconstruction((capsules * truth[:, :, None]).flatten(1, 2))
        return image
