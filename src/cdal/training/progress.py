"""What a training tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdal.runtime.events import Event


@dataclass(frozen=True)
class Step(Event):
    """The state after a step; `done` is the share of the budget that is used, of `total` 1.

    Attributes:
        step: steps done.
        seconds_left: an estimate.
        rate: steps a second.
        loss: moving mean of the predicting player's loss.
        scores: Dice by class on the validation cases, at their last validation.
    """

    step: int = 0
    seconds_left: float = 0.0
    rate: float = 0.0
    loss: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
