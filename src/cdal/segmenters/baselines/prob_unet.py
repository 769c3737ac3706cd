"""Probabilistic U-Net: a U-Net and a conditional variational autoencoder of its segmentations.

Kohl et al.: "A probabilistic U-Net for segmentation of ambiguous images", NeurIPS 2018. A prior net
gives a normal distribution of the latent z for the image. In training, a posterior net that also
sees the label gives the z that explains it. z is appended to the features of the U-Net at every
voxel, and three 1-wide convolutions make logits of both. The loss is the cross-entropy summed over
the voxels, plus beta times the Kullback-Leibler divergence of the posterior from the prior (Eq. 4).
A vote decodes a z drawn from the prior. z has six numbers; for lung nodules beta is 10.

Ours:
- The U-Net is the image network of cDAL, with the recipe's optimiser. The prior and the posterior
  net have as many levels and features as its encoder, and no normalisation: that of the instance
  would hide from their mean over space how large a structure is, and z would not be used.
- The loss is divided by the number of voxels, as gradients are clipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.probabilistic import ProbUNetSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.diffusion.blocks import convolution, leaky_relu
from cdal.segmenters.diffusion.fast import ImageUNet
from cdal.segmenters.draws import randn
from cdal.segmenters.losses import dice_and_cross_entropy_of_logits
from cdal.segmenters.segmenter import Drawing, Segmenter, Turn, one_hot, turn


def build(
    settings: ProbUNetSettings,
    data: DataSettings,
    image_channels: int,
    classes: int,
    training: bool,
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    network = LatentUNet(
        data.spatial_dims, image_channels, classes, settings.channels, settings.latent
    )
    return ProbUNet(network, classes, settings.beta)


class Normal(NamedTuple):
    """A normal distribution of the latent z of each image, with independent components.

    Attributes:
        mean: means, `[B, N]`.
        log_deviation: logarithms of the standard deviations, `[B, N]`.
    """

    mean: Tensor
    log_deviation: Tensor

    def draw(self, rng: torch.Generator) -> Tensor:
        """Draw z, `[B, N]`."""
        noise = randn(self.mean.shape, rng, self.mean)
        return self.mean + self.log_deviation.exp() * noise


class ProbUNet(Drawing):
    """A U-Net with a latent z, trained as a conditional variational autoencoder.

    Args:
        network: U-Net, prior net, posterior net and what combines them.
        classes: K, the number of classes.
        beta: weight of the divergence.
    """

    network: LatentUNet

    def __init__(self, network: LatentUNet, classes: int, beta: float) -> None:
        super().__init__()
        self.network, self.classes, self.beta = network, classes, beta

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`. The loss is the paper's Eq. 4, divided by the voxels."""
        network, truth = self.network, one_hot(batch.labels(), self.classes)
        posterior = network.posterior(torch.cat([batch.per_annotator(batch.image), truth], dim=1))
        features = batch.per_annotator(network.unet(batch.image))
        logits = network.combine(features, posterior.draw(rng))
        terms = dice_and_cross_entropy_of_logits(logits.float(), truth, dice=0)
        prior = Normal(*map(batch.per_annotator, network.prior(batch.image)))
        divergence = kl_divergence(posterior, prior).mean()
        terms["divergence"] = self.beta * divergence / batch.label[0].numel()
        yield turn("network", terms)

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`. The U-Net and the prior net run once."""
        features, prior = self.network.unet(image), self.network.prior(image)
        drawn = [self.network.combine(features, prior.draw(rng)) for _ in range(votes)]
        return torch.stack([logits.float().softmax(dim=1) for logits in drawn])


class LatentUNet(nn.Module):
    """The networks of the Probabilistic U-Net.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C, the number of image channels.
        classes: K, the number of classes.
        channels: number of features at each level of the U-Net and of the two other nets.
        latent: N, the length of z.
    """

    def __init__(
        self,
        spatial_dims: int,
        image_channels: int,
        classes: int,
        channels: Sequence[int],
        latent: int,
    ) -> None:
        super().__init__()
        width = channels[0]
        # A 1-wide convolution of features and z side by side is the sum of one of each. That of the
        # features is the last layer of the U-Net, so it runs once for all votes.
        self.unet = ImageUNet(spatial_dims, image_channels, width, channels)
        self.of_latent = nn.Linear(latent, width, bias=False)
        self.middle = convolution(spatial_dims, width, width, 1)
        self.head = convolution(spatial_dims, width, classes, 1)
        self.prior = LatentNet(spatial_dims, image_channels, channels, latent)
        self.posterior = LatentNet(spatial_dims, image_channels + classes, channels, latent)

    def combine(self, features: Tensor, z: Tensor) -> Tensor:
        """Compute logits of the U-Net's output and z, `([B, W, *S], [B, N]) -> [B, K, *S]`."""
        latent = self.of_latent(z)
        h = leaky_relu(features + latent.reshape(*latent.shape, *[1] * (features.dim() - 2)))
        logits: Tensor = self.head(leaky_relu(self.middle(h)))
        return logits


class LatentNet(nn.Module):
    """An encoder whose features, averaged over space, give the distribution of z.

    Args:
        spatial_dims: 2 or 3.
        channels_in: number of channels of its input.
        channels: number of features at each level. Each level after the first halves the
            resolution.
        latent: N, the length of z.
    """

    def __init__(
        self, spatial_dims: int, channels_in: int, channels: Sequence[int], latent: int
    ) -> None:
        super().__init__()
        inputs = [channels_in, *channels[:-1]]
        self.layers = nn.ModuleList()
        for level, (before, after) in enumerate(zip(inputs, channels, strict=True)):
            stride = 1 if level == 0 else 2
            self.layers.append(convolution(spatial_dims, before, after, 3, stride))
            self.layers.append(convolution(spatial_dims, after, after, 3))
        self.head = nn.Linear(channels[-1], 2 * latent)

    def forward(self, x: Tensor) -> Normal:
        """Compute the distribution of z, in float32."""
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return Normal(*self.head(x.flatten(2).mean(dim=2)).float().chunk(2, dim=1))


def kl_divergence(first: Normal, second: Normal) -> Tensor:
    """Kullback-Leibler divergence of the first distribution from the second, in nats, `[B]`."""
    variances = (2 * (first.log_deviation - second.log_deviation)).exp()
    distances = ((first.mean - second.mean) / second.log_deviation.exp()).square()
    terms = second.log_deviation - first.log_deviation + (variances + distances - 1) / 2
    return terms.sum(dim=1)
