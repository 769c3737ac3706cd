"""Progress events of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdal.runtime.events import Event


@dataclass(frozen=True)
class Step(Event):
    """The state of a training after a step.

    `done` is the used share of the budget, and `total` is 1.

    Attributes:
        step: number of finished steps.
        seconds_left: estimated number of remaining seconds.
        rate: number of steps per second.
        loss: moving mean of the loss of the player that predicts.
        scores: Dice of each class on the validation cases, at the last validation.
    """

    step: int = 0
    seconds_left: float = 0.0
    rate: float = 0.0
    loss: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
