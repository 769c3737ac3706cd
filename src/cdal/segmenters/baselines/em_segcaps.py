"""EM-SegCaps: matrix capsules with EM routing in the architecture of SegCaps.

Survarachakan, Johansen, Pedersen, Amani, Lindseth: "Capsule nets for complex medical image
segmentation tasks", CVCS 2020. The capsules are those of Hinton, Sabour, Frosst, "Matrix capsules
with EM routing", ICLR 2018: a pose of 4 x 4 and an activation, with three iterations of expectation
and maximisation. The class with the most active capsule is predicted. The authors report Dice below
0.25 on the hippocampus.

Ours:
- The paper does not specify the layers. We use 2, 4, 8 and 16 types of capsules from full to an
  eighth of the resolution.
- Votes are the sum over the positions of the kernel, so routing is between types, as in SegCaps.
- Soft Dice is added to the spread loss. The margin of the spread loss rises from 0.2 to 0.9 over
  the first thousand steps.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.baselines import EMSegCapsSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines.capsules import shares
from cdal.segmenters.losses import dice_and_cross_entropy
from cdal.segmenters.segmenter import Deterministic, Segmenter, Turn, one_hot, turn

_POSE = 4
_RAMP = 1000


def build(
    settings: EMSegCapsSettings,
    data: DataSettings,
    image_channels: int,
    classes: int,
    training: bool,
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    return EMSegCaps(MatrixSegCaps(image_channels, classes, settings), classes)


class EMSegCaps(Deterministic):
    """Matrix capsules, trained with spread loss and Dice. They predict by activations.

    Args:
        network: network of capsules.
        classes: K, the number of classes.
    """

    network: MatrixSegCaps

    def __init__(self, network: MatrixSegCaps, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def kind(self, step: int) -> Hashable:
        """See `Segmenter.kind`: `None` while the margin rises, then one kind for all steps."""
        return None if step < _RAMP else "alike"

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`."""
        truth = one_hot(batch.label, self.classes)
        activation = self.network(batch.image)
        terms = {"spread": spread_loss(activation, truth, 0.2 + 0.7 * min(1.0, step / _RAMP))}
        yield turn(
            "network", terms | dice_and_cross_entropy(shares(activation), truth, cross_entropy=0)
        )

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`; returns one vote."""
        return shares(self.network(image))[None]


class MatrixSegCaps(nn.Module):
    """A U-Net of matrix capsules, from images to activations of the classes' capsules.

    Shapes: `[B, C, H, W] -> [B, K, H, W]`.
    """

    def __init__(self, image_channels: int, classes: int, settings: EMSegCapsSettings) -> None:
        super().__init__()

        def capsules(types_in: int, types_out: int, stride: int = 1) -> MatrixCapsules:
            return MatrixCapsules(
                types_in, types_out, stride, settings.iterations, settings.inverse_temperature
            )

        full, half, quarter, eighth = settings.types
        self.first = nn.Sequential(
            nn.Conv2d(image_channels, 16, 3, padding=1), nn.ReLU(inplace=True)
        )
        self.primary = nn.Conv2d(16, _POSE**2 + 1, 1)
        self.level_1 = capsules(1, full)
        self.level_2 = _Chain(capsules(full, half, 2), capsules(half, half))
        self.level_4 = _Chain(capsules(half, quarter, 2), capsules(quarter, quarter))
        self.level_8 = _Chain(capsules(quarter, eighth, 2), capsules(eighth, eighth))
        self.up_quarter, self.join_quarter = (
            capsules(eighth, quarter),
            capsules(2 * quarter, quarter),
        )
        self.up_half, self.join_half = capsules(quarter, half), capsules(2 * half, half)
        self.up_full, self.join_full = capsules(half, full), capsules(2 * full, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the activations, between 0 and 1."""
        primary = self.primary(self.first(image)).float()
        full = self.level_1(primary[:, None, :-1], primary[:, None, -1].sigmoid())
        half = self.level_2(*full)
        quarter = self.level_4(*half)
        up = self.up_quarter(*_enlarge(*self.level_8(*quarter)))
        up = self.up_half(*_enlarge(*self.join_quarter(*_joined(up, quarter))))
        up = self.up_full(*_enlarge(*self.join_half(*_joined(up, half))))
        _, activation = self.join_full(*_joined(up, full))
        return activation


class MatrixCapsules(nn.Module):
    """Convolutional matrix capsules, from N input types to M output types.

    Poses are `[B, N, 16, H, W]` and activations `[B, N, H, W]`, for the output with M instead of N.
    The vote of type i for type j is the sum of pose_i W_ij over a 3 x 3 neighbourhood. Each
    position of the neighbourhood has its own 4 x 4 matrix W_ij.
    """

    def __init__(
        self,
        types_in: int,
        types_out: int,
        stride: int,
        iterations: int,
        inverse_temperature: float,
    ) -> None:
        super().__init__()
        self.types_in, self.types_out, self.stride = types_in, types_out, stride
        self.iterations, self.inverse_temperature = iterations, inverse_temperature
        # All rows of a pose are multiplied by the same matrix, so they are part of the batch. The
        # columns are channels.
        self.votes = nn.Conv2d(
            types_in * _POSE,
            types_in * types_out * _POSE,
            3,
            stride,
            1,
            groups=types_in,
            bias=False,
        )
        # With this scale, votes and poses that agree are as large as the poses they come from.
        nn.init.normal_(self.votes.weight, std=1 / math.sqrt(9 * _POSE))
        self.beta_u = nn.Parameter(torch.zeros(types_out))
        self.beta_a = nn.Parameter(torch.zeros(types_out))

    def forward(self, pose: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the votes and route them; routing uses float32."""
        batch = len(pose)
        # [B * 4, N * 4, H, W]
        rows = pose.unflatten(2, (_POSE, _POSE)).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        votes = (
            self.votes(rows)
            .float()
            .unflatten(0, (batch, _POSE))
            .unflatten(2, (self.types_in, self.types_out, _POSE))
        )
        votes = votes.permute(0, 2, 3, 1, 4, 5, 6).flatten(3, 4)  # [B, N, M, 16, H, W]
        present = F.avg_pool2d(activation.float(), 3, self.stride, 1, count_include_pad=False)
        return em_routing(
            votes, present, self.beta_u, self.beta_a, self.iterations, self.inverse_temperature
        )


def em_routing(
    votes: Tensor,
    activation: Tensor,
    beta_u: Tensor,
    beta_a: Tensor,
    iterations: int,
    inverse_temperature: float,
) -> tuple[Tensor, Tensor]:
    """EM routing, separately at each position (Hinton et al., ICLR 2018, Procedure 1).

    Args:
        votes: votes of each input type for the pose of each output type, `[B, N, M, P, *S]`.
        activation: activations of the input types, `[B, N, *S]`.
        beta_u: cost of a dimension that is not explained, `[M]`.
        beta_a: gain of being active, `[M]`.
        iterations: number of routing iterations, 1 or more.
        inverse_temperature: inverse temperature lambda of the activations.

    Returns:
        Poses `[B, M, P, *S]` and activations `[B, M, *S]`.
    """
    space = (1,) * (votes.dim() - 4)
    beta_u, beta_a = beta_u.reshape(1, -1, *space), beta_a.reshape(1, -1, *space)
    assignment = votes.new_full(votes.shape[:3] + votes.shape[4:], 1 / votes.shape[2])
    while True:
        weights = assignment * activation[:, :, None]  # R_ij a_i, [B, N, M, *S]
        total = weights.sum(dim=1) + 1e-8
        mean = (weights[:, :, :, None] * votes).sum(dim=1) / total[:, :, None]
        squared = (votes - mean[:, None]).square()
        variance = (weights[:, :, :, None] * squared).sum(dim=1) / total[:, :, None] + 1e-4
        cost = total * (beta_u * votes.shape[3] + 0.5 * variance.log().sum(dim=2))
        active = (inverse_temperature * (beta_a - cost)).sigmoid()
        iterations -= 1
        if iterations == 0:
            return mean, active
        log_p = -0.5 * (squared / variance[:, None] + (2 * math.pi * variance[:, None]).log()).sum(
            dim=3
        )
        assignment = (log_p + (active[:, None] + 1e-8).log()).softmax(dim=2)


def spread_loss(activation: Tensor, truth: Tensor, margin: float) -> Tensor:
    """The mean over positions of sum_{i != t} max(0, m - (a_t - a_i))² (Hinton et al., Eq. 3).

    Args:
        activation: activations a_i of the classes, `[B, K, *S]`.
        truth: one-hot truth of the same shape; t is the true class.
        margin: margin m.
    """
    true = (activation * truth).sum(dim=1, keepdim=True)
    return ((margin - (true - activation)).clamp_min(0).square() * (1 - truth)).sum(dim=1).mean()


class _Chain(nn.Module):
    """Layers of capsules, applied one after the other."""

    def __init__(self, *layers: MatrixCapsules) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, pose: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            pose, activation = layer(pose, activation)
        return pose, activation


def _enlarge(pose: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
    """Double the height and the width by repeating every capsule."""
    return (
        pose.repeat_interleave(2, -2).repeat_interleave(2, -1),
        activation.repeat_interleave(2, -2).repeat_interleave(2, -1),
    )


def _joined(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Concatenate the types of both."""
    return torch.cat([first[0], second[0]], dim=1), torch.cat([first[1], second[1]], dim=1)
