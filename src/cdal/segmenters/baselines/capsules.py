"""What the capsule networks share: convolutional capsules, dynamic routing, and what is learned from a capsule's length.

Shapes: N types of capsules with A numbers ("atoms") each in, M types with D atoms each out, `*S` two or three axes of space.
"""

from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

MARGIN_IN, MARGIN_OUT, LAMBDA = 0.9, 0.1, 0.5


def squash(s: Tensor, dim: int) -> Tensor:
    """|s|² / (1 + |s|²) s / |s|: the direction stays, the length comes to lie between 0 and 1 (Sabour et al., 2017, Eq. 1)."""
    squared = s.square().sum(dim=dim, keepdim=True)
    return s * (squared + 1e-8).sqrt() / (1 + squared)


def dynamic_routing(votes: Tensor, bias: Tensor, iterations: int) -> Tensor:
    """Routing by agreement, at each position by itself (Sabour et al., NeurIPS 2017, Procedure 1; LaLonde & Bagci, 2018).

    The coefficients are found without gradients; these flow through the last weighted sum, as is usual.

    Args:
        votes: `[B, N, M, D, *S]`, what each input type thinks of each output type.
        bias: broadcastable to `[B, M, D, *S]`.
        iterations: 1 or more.

    Returns:
        `[B, M, D, *S]`, each of a length between 0 and 1.
    """
    opinions = votes.detach()
    logits = opinions.new_zeros(votes.shape[:3] + votes.shape[4:])
    for _ in range(iterations - 1):
        outputs = squash(_weighted(logits, opinions) + bias.detach(), dim=2)
        logits = logits + (opinions * outputs[:, None]).sum(dim=3)
    return squash(_weighted(logits, votes) + bias, dim=2)


def _weighted(logits: Tensor, votes: Tensor) -> Tensor:
    """Each input type shares itself out among the output types."""
    return (logits.softmax(dim=2)[:, :, :, None] * votes).sum(dim=1)


class ConvolutionalCapsules(nn.Module):
    """Locally constrained routing: votes are a convolution of each input type's atoms, `[B, N, A, *S] -> [B, M, D, *S']`.

    Args:
        spatial_dims: 2 or 3.
        capsules_in: N and A.
        capsules_out: M and D.
        kernel: of the convolution.
        stride: by which the size is divided, or multiplied where `enlarge`.
        iterations: of the routing.
        shared: whether all input types have the same weights (LaLonde & Bagci) or each its own (Nguyen et al.).
        enlarge: a transposed convolution.
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
        kind = Conv[Conv.CONVTRANS if enlarge else Conv.CONV, spatial_dims]
        padding = (kernel - stride) // 2 if enlarge else kernel // 2
        wide = self.types_out * self.atoms_out
        self.votes = kind(self.groups * atoms, self.groups * wide, kernel, stride, padding, groups=self.groups, bias=not shared)
        self.bias = nn.Parameter(torch.zeros(self.types_out, self.atoms_out, *[1] * spatial_dims))
        # Squashing shortens what is short, so that with weights as small as a convolution's usual ones nothing of the image is left
        # after some layers. These make the sum of the votes of capsules of length 1/2 as long as 1.
        taps = (kernel / stride if enlarge else kernel) ** spatial_dims
        nn.init.normal_(self.votes.weight, std=2 * self.types_out / math.sqrt(taps * types * self.atoms_out))

    def forward(self, x: Tensor) -> Tensor:
        """Vote and route, the latter in float32."""
        batch, types = x.shape[:2]
        together = x.flatten(0, 1) if self.groups == 1 else x.flatten(1, 2)
        votes = self.votes(together).float()
        votes = votes.reshape(batch, types, self.types_out, self.atoms_out, *votes.shape[2:])
        return dynamic_routing(votes, self.bias, self.iterations)


def lengths(capsules: Tensor) -> Tensor:
    """`[B, M, D, *S] -> [B, M, *S]`."""
    return (capsules.square().sum(dim=2) + 1e-8).sqrt()


def margin_loss(lengths: Tensor, truth: Tensor) -> Tensor:
    """The mean of T max(0, 0.9 - |v|)² + 0.5 (1 - T) max(0, |v| - 0.1)² over classes and positions (Sabour et al., Eq. 4).

    Args:
        lengths: `[B, K, *S]`.
        truth: one-hot, or between 0 and 1.
    """
    there = truth * (MARGIN_IN - lengths).clamp_min(0).square()
    absent = LAMBDA * (1 - truth) * (lengths - MARGIN_OUT).clamp_min(0).square()
    return (there + absent).mean()


def shares(scores: Tensor) -> Tensor:
    """Scores of classes that are not negative, `[B, K, *S]`, as probabilities."""
    return (scores + 1e-6) / (scores + 1e-6).sum(dim=1, keepdim=True)


def reconstruction_loss(guess: Tensor, image: Tensor, truth: Tensor) -> Tensor:
    """The squared error over the voxels that are of a class, as these alone have a capsule that stands for them.

    Args:
        guess: `[B, C, *S]`.
        image: `[B, C, *S]`.
        truth: one-hot `[B, K, *S]`.
    """
    inside = 1 - truth[:, :1]
    return (inside * (guess - image).square()).sum() / (inside.sum() * image.shape[1] + 1)


def reconstruction_head(spatial_dims: int, channels_in: int, image_channels: int) -> nn.Module:
    """1-wide convolutions from masked capsules to intensities."""
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        conv(channels_in, 64, 1), nn.ReLU(inplace=True), conv(64, 128, 1), nn.ReLU(inplace=True), conv(128, image_channels, 1)
    )
