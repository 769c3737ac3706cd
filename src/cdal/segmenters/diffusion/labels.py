"""Classes as the clean label x_0, and back to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def label_count(classes: int) -> int:
    """L, the number of label channels: 1 for two classes, otherwise one per class."""
    return 1 if classes == 2 else classes


def label_channels(truth: Tensor) -> Tensor:
    """Convert one-hot classes `[B, K, *S]` to x_0 in {-1, 1}, `[B, L, *S]`; L is `label_count`."""
    return 2 * (truth[:, 1:] if truth.shape[1] == 2 else truth) - 1


def to_probabilities(x0: Tensor, bounded: bool = False) -> Tensor:
    """Convert x_0 `[B, L, *S]` to probabilities `[B, K, *S]`.

    These are (x_0 + 1) / 2, clipped to [0, 1] and normalised to sum to 1.

    Args:
        x0: clean label.
        bounded: whether (x_0 + 1) / 2 already lies in [0, 1] and sums to 1.
    """
    p = (x0 + 1).mul_(0.5)
    if x0.shape[1] == 1:
        p = p.clamp(0, 1)
        return torch.cat([1 - p, p], dim=1)
    if bounded:
        return p
    p = p.clamp(0, 1) + 1e-8
    return p / p.sum(dim=1, keepdim=True)
