"""Losses on probabilities. All reduce to a scalar; `probabilities` and `truth` are `[B, K, *S]`, class 0 the background."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor

_dice = DiceLoss(include_background=False, smooth_nr=1e-5, smooth_dr=1e-5, batch=True)


def dice_and_cross_entropy(
    probabilities: Tensor, truth: Tensor, dice: float = 1.0, cross_entropy: float = 1.0
) -> dict[str, Tensor]:
    """The usual pair of the field (Isensee et al., Nature Methods 2021), weighted; a weight of 0 leaves a term out.

    Soft Dice is taken over the batch as one image, per class without the background; cross-entropy is the mean over voxels of
    -log p(true class).

    Args:
        probabilities: add up to 1 over K.
        truth: one-hot.
        dice: weight.
        cross_entropy: weight.
    """
    terms = {}
    if dice:
        terms["dice"] = dice * _dice(probabilities, truth)
    if cross_entropy:
        log_p = probabilities.clamp_min(1e-7).log()
        terms["cross_entropy"] = -cross_entropy * (truth * log_p).sum(dim=1).mean()
    return terms


def energy_score(votes: Tensor, truth: Tensor) -> Tensor:
    """How far the votes are from the truth, less half of how far they are from each other.

    mean_v |x_v - y| - 1/2 mean_{v != w} |x_v - x_w|, with |.| the root mean square over a sample's voxels. The score is strictly
    proper (Gneiting & Raftery, JASA 2007, Sec. 4.2): its expectation is least where the votes are drawn from the distribution
    of the truth, so that votes which are one opinion repeated pay for it. As a loss for few-step diffusion: De Bortoli et al.,
    "Distributional diffusion models with scoring rules", 2025.

    Args:
        votes: `[V, B, L, *S]` with V at least 2.
        truth: `[B, L, *S]`.

    Raises:
        ValueError: fewer than two votes.
    """
    count = votes.shape[0]
    if count < 2:
        raise ValueError(f"the energy score compares votes and needs at least 2; it got {count}.")
    to_truth = _distance(votes, truth[None]).mean()
    # Votes against the votes turned by one, two, ... places: every ordered pair once.
    between = torch.stack([_distance(votes, votes.roll(shift, dims=0)).mean() for shift in range(1, count)]).mean()
    return to_truth - between / 2


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square over all but the first two axes; the small number keeps the root's gradient finite at 0."""
    return ((a - b).square().flatten(2).mean(dim=2) + 1e-8).sqrt()
