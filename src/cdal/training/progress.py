"""What a training tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """The state after a step.

    Attributes:
        step: steps done.
        fraction: of the budget that is used, 0 to 1.
        seconds_left: an estimate.
        rate: steps a second.
        loss: moving mean of the predicting player's loss.
        scores: Dice by class on the validation cases, at their last validation.
    """

    step: int
    fraction: float
    seconds_left: float
    rate: float
    loss: float
    scores: dict[str, float]
