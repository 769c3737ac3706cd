"""Stochastic Segmentation Network: a normal distribution over the logits of all voxels at once.

Monteiro et al.: "Stochastic segmentation networks: modelling spatially correlated aleatoric
uncertainty", NeurIPS 2020. The logits eta of an image are normal with mean mu and covariance
P P' + D (Sec. 3.2). P has rank 10, and D is diagonal. The network's last layer gives mu, P and D.
The loss is the negative logarithm of the Monte-Carlo estimate of the likelihood (Eq. 5) with 20
draws. A vote is the softmax of one draw.

Ours:
- The network is the image network of cDAL, with the recipe's optimiser.
- The loss is divided by the number of voxels, as gradients are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.probabilistic import SSNSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.diffusion.fast import ImageUNet
from cdal.segmenters.draws import randn
from cdal.segmenters.segmenter import Drawing, Segmenter, Turn, one_hot, turn

_SMALLEST_VARIANCE = 1e-5
"""Smallest element of D."""


def build(
    settings: SSNSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    outputs = classes * (2 + settings.rank)
    network = ImageUNet(data.spatial_dims, image_channels, outputs, settings.channels)
    return SSN(network, classes, settings.samples)


class LowRankNormal(NamedTuple):
    """A normal distribution of the logits of each image, with covariance P P' + D.

    Attributes:
        mean: mu, `[B, K, *S]`.
        factor: P, `[B, R, K, *S]`.
        variance: diagonal of D, `[B, K, *S]`.
    """

    mean: Tensor
    factor: Tensor
    variance: Tensor

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw logits mu + P e + D^(1/2) e', `[M, B, K, *S]` for `count` draws M.

        The numbers of a draw do not depend on the number of draws.
        """
        deviation = self.variance.sqrt()
        return torch.stack([self._draw(deviation, rng) for _ in range(count)])

    def _draw(self, deviation: Tensor, rng: torch.Generator) -> Tensor:
        shared = randn(self.factor.shape[:2], rng, self.mean)
        along_factor = torch.einsum("br,br...->b...", shared, self.factor)
        return self.mean + along_factor + deviation * randn(self.mean.shape, rng, self.mean)


class SSN(Drawing):
    """A network that gives the distribution of the logits.

    Args:
        network: network from images `[B, C, *S]` to K means, K logarithms of variances and R times
            K numbers of the factor, `[B, (2 + R) * K, *S]`.
        classes: K, the number of classes.
        samples: M, draws of the logits for one image in a training step.
    """

    def __init__(self, network: nn.Module, classes: int, samples: int) -> None:
        super().__init__()
        self.network, self.classes, self.samples = network, classes, samples

    def distribution(self, image: Tensor) -> LowRankNormal:
        """The distribution of the logits of images `[B, C, *S]`, in float32."""
        outputs = self.network(image).float().unflatten(1, (-1, self.classes))
        mean, log_variance, factor = outputs[:, 0], outputs[:, 1], outputs[:, 2:]
        return LowRankNormal(mean, factor, log_variance.exp() + _SMALLEST_VARIANCE)

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`."""
        logits = self.distribution(batch.image).draw(self.samples, rng)
        truth = one_hot(batch.labels(), self.classes)
        likelihood = log_likelihood(batch.per_annotator(logits, axis=1), truth)
        yield turn("network", {"likelihood": -likelihood.mean() / batch.label[0].numel()})

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`. The network runs once."""
        return self.distribution(image).draw(votes, rng).softmax(dim=2)


def log_likelihood(logits: Tensor, truth: Tensor) -> Tensor:
    """Monte-Carlo estimate of the log-likelihood of each image's label (the paper's Eq. 5).

    log 1/M sum_m prod_i p(y_i | eta_m), with the product over all voxels i.

    Args:
        logits: M draws eta_m, `[M, B, K, *S]`.
        truth: one-hot labels, `[B, K, *S]`.

    Returns:
        The logarithms, `[B]`.
    """
    by_draw = (truth * logits.log_softmax(dim=2)).flatten(2).sum(dim=2)
    return by_draw.logsumexp(dim=0) - math.log(len(logits))
