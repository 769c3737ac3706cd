"""Losses on probabilities.

All losses are scalars. `probabilities` and `truth` are `[B, K, *S]`, and class 0 is the background.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cdal.runtime.execution import ranks

_SMOOTH = 4.0
"""Voxels that are added to intersection and union."""

_SMOOTH_DICE = 1e-5
"""What is added to numerator and denominator of soft Dice."""


def dice_and_cross_entropy(
    probabilities: Tensor, truth: Tensor, dice: float = 1.0, cross_entropy: float = 1.0
) -> dict[str, Tensor]:
    """Weighted soft Dice and cross-entropy, the usual pair (Isensee et al., Nature Methods 2021).

    Cross-entropy is the mean over voxels of -log p(true class).

    Args:
        probabilities: probabilities that sum to 1 over K.
        truth: one-hot truth.
        dice: weight of soft Dice; 0 leaves the term out.
        cross_entropy: weight of the cross-entropy; 0 leaves the term out.
    """
    terms = {}
    if dice:
        terms["dice"] = dice * soft_dice(probabilities, truth)
    if cross_entropy:
        log_p = probabilities.clamp_min(1e-7).log()
        terms["cross_entropy"] = -cross_entropy * (truth * log_p).sum(dim=1).mean()
    return terms


def dice_and_cross_entropy_of_logits(
    logits: Tensor, truth: Tensor, dice: float = 1.0, cross_entropy: float = 1.0
) -> dict[str, Tensor]:
    """`dice_and_cross_entropy` of the softmax of logits, whose gradient never vanishes.

    A probability that has been rounded to 0 has no gradient. A network that says background
    everywhere, and is certain, would stay so.

    Args:
        logits: `[B, K, *S]`; for two classes also `[B, 1, *S]`, whose sigmoid is that of class 1.
        truth: one-hot truth.
        dice: weight of soft Dice; 0 leaves the term out.
        cross_entropy: weight of the cross-entropy; 0 leaves the term out.
    """
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    terms = dice_and_cross_entropy(logits.softmax(dim=1), truth, dice, cross_entropy=0)
    if cross_entropy:
        log_p = logits.log_softmax(dim=1)
        terms["cross_entropy"] = -cross_entropy * (truth * log_p).sum(dim=1).mean()
    return terms


def soft_dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice, the mean over the classes except the background.

    The whole batch is treated as one image, also if several ranks have slices of it.
    """
    p, y = probabilities[:, 1:], truth[:, 1:]
    axes = [0, *range(2, p.dim())]
    found, predicted, true = ranks.total(
        torch.stack([(p * y).sum(dim=axes), p.sum(dim=axes), y.sum(dim=axes)])
    )
    extra, missed = predicted - found, true - found
    both = 2 * (found + extra * 0.5 + missed * 0.5)
    return (1 - (2 * found + _SMOOTH_DICE) / (both + _SMOOTH_DICE)).mean()


def energy_score(votes: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of the votes to the truth, minus half the mean distance between votes.

    mean_v |x_v - y| - 1/2 mean_{v != w} |x_v - x_w|, with |.| the root mean square over a sample's
    voxels.

    The score is strictly proper (Gneiting & Raftery, JASA 2007, Sec. 4.2): its expectation is
    lowest if the votes are drawn from the distribution of the truth. Identical votes are therefore
    penalised. De Bortoli et al. ("Distributional diffusion models with scoring rules", 2025) use
    the score as a loss for few-step diffusion.

    Args:
        votes: votes `[V, B, L, *S]`, with V at least 2.
        truth: truth `[B, L, *S]`.

    Raises:
        ValueError: there are fewer than two votes.
    """
    count = votes.shape[0]
    if count < 2:
        raise ValueError(f"the energy score compares votes and needs at least 2; it got {count}.")
    to_truth = _distance(votes, truth[None]).mean()
    # Rolling the votes by 1, 2, ... places gives every ordered pair of different votes once.
    between = torch.stack(
        [_distance(votes, votes.roll(shift, dims=0)).mean() for shift in range(1, count)]
    ).mean()
    return to_truth - between / 2


def iou_energy_score(votes: Tensor, truth: Tensor) -> Tensor:
    """The energy score of `energy_score` with the distance 1 - sum min(a, b) / sum max(a, b).

    On hard masks the distance is 1 - IoU, the one of the generalised energy distance, which the
    score then estimates up to a constant. It looks at objects, not at voxels: an empty mask is as
    far from a small object as from a large one. The distance of soft masks is Ruzicka's; its
    similarity is a positive definite kernel, so the score is strictly proper. Both sums get the
    same small number of voxels in addition, so that empty masks have a gradient.

    Args:
        votes: votes in [0, 1], `[V, B, L, *S]`, with V at least 2.
        truth: truth in {0, 1}, `[B, L, *S]`.

    Raises:
        ValueError: there are fewer than two votes.
    """
    count = votes.shape[0]
    if count < 2:
        raise ValueError(f"the energy score compares votes and needs at least 2; it got {count}.")
    to_truth = _iou_distance(votes, truth[None].expand_as(votes)).mean()
    # Votes 1, 2, ... places apart: every pair once, and no index that a GPU has to be asked for.
    apart = range(1, count)
    first = torch.cat([votes[:-shift] for shift in apart])
    second = torch.cat([votes[shift:] for shift in apart])
    between = _iou_distance(first, second).mean()
    return to_truth - between / 2


def _iou_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - sum min / sum max over the axes of space, `[V, B, L, *S] -> [V, B, L]`."""
    both = torch.minimum(a, b).flatten(3).sum(dim=3)
    either = torch.maximum(a, b).flatten(3).sum(dim=3)
    return 1 - (both + _SMOOTH) / (either + _SMOOTH)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square of the difference over all but the first two axes."""
    # The small constant keeps the gradient of the root finite at 0.
    return ((a - b).square().flatten(2).mean(dim=2) + 1e-8).sqrt()
