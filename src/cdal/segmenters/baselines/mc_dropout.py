"""Monte-Carlo dropout: votes of one network whose features are left out at random.

Gal, Ghahramani: "Dropout as a Bayesian approximation: representing model uncertainty in deep
learning", ICML 2016; Kendall, Gal: "What uncertainties do we need in Bayesian deep learning for
computer vision?", NeurIPS 2017. Dropout stays on when votes are drawn, so each vote is a network
drawn from an approximate posterior of the weights. It is in the inner blocks of encoder and decoder
alone, with p = 0.5 (Kendall et al., "Bayesian SegNet", BMVC 2017; as in the comparison of Kohl et
al., NeurIPS 2018, before a block).

Ours: the network is the image network of cDAL, trained with Dice and cross-entropy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cdal.datasets.batch import Batch
from cdal.recipes.probabilistic import MCDropoutSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.diffusion.fast import ImageUNet
from cdal.segmenters.draws import rand
from cdal.segmenters.losses import dice_and_cross_entropy_of_logits
from cdal.segmenters.segmenter import Drawing, Segmenter, Turn, one_hot, turn


def build(
    settings: MCDropoutSettings,
    data: DataSettings,
    image_channels: int,
    classes: int,
    training: bool,
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    network = ImageUNet(data.spatial_dims, image_channels, classes, settings.channels)
    return MCDropout(network, classes, settings.dropout)


class MCDropout(Drawing):
    """The image network with dropout in training and for each vote.

    Args:
        network: network from images to logits; without dropout it is that of `cdal-unet`.
        classes: K, the number of classes.
        rate: share of the features that are left out.
    """

    network: ImageUNet

    def __init__(self, network: ImageUNet, classes: int, rate: float) -> None:
        super().__init__()
        self.network, self.classes, self.rate = network, classes, rate

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`."""
        with dropping(self.network, self.rate, rng):
            logits = batch.per_annotator(self.network(batch.image).float())
        truth = one_hot(batch.labels(), self.classes)
        yield turn("network", dice_and_cross_entropy_of_logits(logits, truth))

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`. Each vote is a pass of the network."""
        with dropping(self.network, self.rate, rng):
            drawn = [self.network(image).float().softmax(dim=1) for _ in range(votes)]
        return torch.stack(drawn)


@contextmanager
def dropping(network: ImageUNet, rate: float, rng: torch.Generator) -> Iterator[None]:
    """Drop features before each block of the network below full resolution, while this is open.

    Args:
        network: the image network, which is unchanged afterwards.
        rate: share of the features that are left out.
        rng: random generator for all draws.
    """
    inner = [*network.down[1:], *network.up[:-1]]
    handles = [
        block.register_forward_pre_hook(lambda _block, given: (dropout(given[0], rate, rng),))
        for block in inner
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def dropout(x: Tensor, rate: float, rng: torch.Generator) -> Tensor:
    """Set a share of the numbers to zero and scale the others, so that the mean stays the same."""
    kept = rand(x.shape, rng, x) >= rate
    return x * kept / (1 - rate)
