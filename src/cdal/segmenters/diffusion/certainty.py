"""A bound for the certainty of a label in training, so that no network is lost beyond it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST_CERTAIN = 14.0
"""Largest logit of a label in training, and largest difference of two: a probability of 1e-6."""


def less_certain(logits: Tensor) -> Tensor:
    """Bound logits `[B, L, *S]` by `MOST_CERTAIN`, in float32.

    The logit of one label is bounded on both sides. Of several, each is bounded below the highest.

    Below a logit of -17 a label is -1 in float32 (below -6 in bfloat16), and has no gradient. A
    network that has come there everywhere, as a few large steps can bring it, would never learn to
    leave. So values beyond the bound get its value and its gradient, but only a gradient that leads
    back. One that leads farther out would be followed for ever: it is tiny, but an optimiser like
    Adam divides by its size.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        low = logits.new_tensor(-MOST_CERTAIN)
        high = logits.new_tensor(MOST_CERTAIN)
    else:
        low = logits.detach().amax(dim=1, keepdim=True) - MOST_CERTAIN
        high = logits.new_tensor(float("inf"))
    bounded: Tensor = _Bounded.apply(logits, low, high)
    return bounded


class _Bounded(torch.autograd.Function):
    """`clamp`, whose gradient is that of the identity where descending it leads towards the range.

    A step of gradient descent goes against the gradient, so a positive one lowers the value.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(value < low, value > high)
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        below, above = ctx.saved_tensors
        outwards = (below & (gradient > 0)) | (above & (gradient < 0))
        return gradient.masked_fill(outwards, 0.0), None, None
