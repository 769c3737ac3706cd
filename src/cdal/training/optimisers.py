"""The optimiser of each player, and the moving average of the weights that predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cdal.recipes.settings import TrainingSettings


def make_optimiser(
    player: nn.Module, settings: TrainingSettings, predicts: bool, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW for the predicting player; Adam with the paper's momenta (0.5, 0.9) for its opponent.

    On a GPU, the learning rate is a tensor on the device, so that a recorded step can read it.
    """
    peak = settings.learning_rate if predicts else settings.discriminator_learning_rate
    on_gpu = device.type == "cuda"
    rate = torch.tensor(peak, device=device) if on_gpu else peak
    options = {"fused": True, "capturable": on_gpu}
    if predicts:
        optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            player.parameters(), rate, settings.betas, weight_decay=settings.weight_decay, **options
        )
    else:
        optimiser = torch.optim.Adam(player.parameters(), rate, betas=(0.5, 0.9), **options)
    for group in optimiser.param_groups:
        group["peak"] = peak
    return optimiser


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average. Its decay starts low, so the first steps are soon forgotten."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, steps: Any) -> None:
        current_decay = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            # Not lerp, which would turn infinite constants (masks) into NaN.
            torch._foreach_mul_(averaged, current_decay)
            torch._foreach_add_(averaged, current, alpha=1 - current_decay)
        else:  # a count of batches
            torch._foreach_copy_(averaged, current)

    return update
