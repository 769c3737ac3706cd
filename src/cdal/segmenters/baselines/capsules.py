"""Shared parts of the capsule networks: convolutional capsules, dynamic routing and losses.

Symbols in shapes: N input types of capsules with A numbers ("atoms") each, M output types with D
atoms each, `*S` two or three spatial axes.
"""

from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from cdal.runtime.execution import ranks

MARGIN_IN, MARGIN_OUT, LAMBDA = 0.9, 0.1, 0.5


def squash(s: Tensor, dim: int) -> Tensor:
    """Keep the direction of s and bring its length between 0 and 1 (Sabour et al., 2017, Eq. 1).

    The result is |s|² / (1 + |s|²) s / |s|.
    """
    squared = s.square().sum(dim=dim, keepdim=True)
    return s * (squared + 1e-8).sqrt() / (1 + squared)


def dynamic_routing(votes: Tensor, bias: Tensor, iterations: int) -> Tensor:
    """Route by agreement, separately at each position.

    The method is Procedure 1 of Sabour et al., NeurIPS 2017, at each position as in LaLonde &
    Bagci, 2018. The routing coefficients are computed without gradients. As usual, gradients flow
    only through the last weighted sum.

    Args:
        votes: votes of each input type for each output type, `[B, N, M, D, *S]`.
        bias: bias, broadcastable to `[B, M, D, *S]`.
        iterations: number of routing iterations, 1 or more.

    Returns:
        Capsules `[B, M, D, *S]`, each with a length between 0 and 1.
    """
    detached = votes.detach()
    logits = detached.new_zeros(votes.shape[:3] + votes.shape[4:])
    for _ in range(iterations - 1):
        outputs = squash(_weighted(logits, detached) + bias.detach(), dim=2)
        logits = logits + (detached * outputs[:, None]).sum(dim=3)
    return squash(_weighted(logits, votes) + bias, dim=2)


def _weighted(logits: Tensor, votes: Tensor) -> Tensor:
    """Sum the votes. Each input type distributes a weight of 1 over the output types."""
    return (logits.softmax(dim=2)[:, :, :, None] * votes).sum(dim=1)


class ConvolutionalCapsules(nn.Module):
    """Capsules with locally constrained routing, `[B, N, A, *S] -> [B, M, D, *S']`.

    The votes are a convolution of the atoms of each input type.

    Args:
        spatial_dims: 2 or 3.
        capsules_in: N and A, the numbers of input types and of their atoms.
        capsules_out: M and D, the numbers of output types and of their atoms.
        kernel: width of the convolution's kernel.
        stride: factor by which the size is divided, or multiplied if `enlarge` is set.
        iterations: number of routing iterations.
        shared: whether all input types have the same weights (LaLonde & Bagci), or each has its own
            (Nguyen et al.).
        enlarge: whether to use a transposed convolution.
    """

    def __init__(
        self,
        spatial_dims: int,
        capsules_in: tuple[int, int],
        capsules_out: tuple[int, int],
        kernel: int,
        stride: int = 1,
        iterations: int = 3,
        shared: bool = True,
        enlarge: bool = False,
    ) -> None:
        super().__init__()
        (types, atoms), (self.types_out, self.atoms_out) = capsules_in, capsules_out
        self.groups, self.iterations = 1 if shared else types, iterations
        layer_class = Conv[Conv.CONVTRANS if enlarge else Conv.CONV, spatial_dims]
        padding = (kernel - stride) // 2 if enlarge else kernel // 2
        features = self.types_out * self.atoms_out
        self.votes = layer_class(
            self.groups * atoms,
            self.groups * features,
            kernel,
            stride,
            padding,
            groups=self.groups,
            bias=not shared,
        )
        self.bias = nn.Parameter(torch.zeros(self.types_out, self.atoms_out, *[1] * spatial_dims))
        # Squashing makes short vectors even shorter. With the usual, small weights of a
        # convolution, nothing of the image would be left after a few layers. With these weights,
        # the votes of capsules of length 1/2 have a sum of length 1.
        taps = (kernel / stride if enlarge else kernel) ** spatial_dims
        nn.init.normal_(
            self.votes.weight, std=2 * self.types_out / math.sqrt(taps * types * self.atoms_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the votes and route them; routing uses float32."""
        batch, types = x.shape[:2]
        grouped = x.flatten(0, 1) if self.groups == 1 else x.flatten(1, 2)
        votes = self.votes(grouped).float()
        votes = votes.reshape(batch, types, self.types_out, self.atoms_out, *votes.shape[2:])
        return dynamic_routing(votes, self.bias, self.iterations)


def lengths(capsules: Tensor) -> Tensor:
    """Lengths of capsules, `[B, M, D, *S] -> [B, M, *S]`."""
    return (capsules.square().sum(dim=2) + 1e-8).sqrt()


def margin_loss(lengths: Tensor, truth: Tensor) -> Tensor:
    """Margin loss on the lengths of capsules (Sabour et al., Eq. 4).

    It is the mean of T max(0, 0.9 - |v|)² + 0.5 (1 - T) max(0, |v| - 0.1)² over classes and
    positions.

    Args:
        lengths: lengths |v| of the classes' capsules, `[B, K, *S]`.
        truth: truth T of the same shape, one-hot or between 0 and 1.
    """
    present = truth * (MARGIN_IN - lengths).clamp_min(0).square()
    absent = LAMBDA * (1 - truth) * (lengths - MARGIN_OUT).clamp_min(0).square()
    return (present + absent).mean()


def shares(scores: Tensor) -> Tensor:
    """Normalise non-negative scores of classes, `[B, K, *S]`, to probabilities."""
    return (scores + 1e-6) / (scores + 1e-6).sum(dim=1, keepdim=True)


def reconstruction_loss(guess: Tensor, image: Tensor, truth: Tensor) -> Tensor:
    """Squared error averaged over the foreground; only its voxels have a capsule for their class.

    Args:
        guess: reconstruction `[B, C, *S]`.
        image: image `[B, C, *S]`.
        truth: one-hot truth `[B, K, *S]`.
    """
    inside = 1 - truth[:, :1]
    squared = ranks.total((inside * (guess - image).square()).sum())
    return squared / (ranks.total(inside.sum()) * image.shape[1] + 1)


def reconstruction_head(spatial_dims: int, channels_in: int, image_channels: int) -> nn.Module:
    """Make the 1-wide convolutions from masked capsules to intensities."""
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        conv(channels_in, 64, 1),
        nn.ReLU(inplace=True),
        conv(64, 128, 1),
        nn.ReLU(inplace=True),
        conv(128, image_channels, 1),
    )
