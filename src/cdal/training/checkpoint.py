"""Checkpoints: everything that a run needs to resume exactly where it stopped.

A checkpoint is one file, written atomically.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded


@dataclass
class Checkpoint:
    """The numbers of a run. The file also holds the weights and the states of the optimisers.

    Attributes:
        step: number of finished steps.
        seconds: seconds of training so far, over all resumptions.
        best: highest `Validation.rank` so far.
        scores: Dice of each class at the last validation.
        loss: running mean of the loss, for the display; `None` before the first step.
        fingerprint: fingerprint of the training data.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    scores: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    loss: float | None = None


def save_checkpoint(
    path: Path,
    state: Checkpoint,
    players: Mapping[str, nn.Module],
    average: nn.Module,
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Write the state of a run.

    Args:
        path: path of the file.
        state: numbers of the run.
        players: networks that are trained, by name.
        average: averaged network.
        optimisers: optimiser of each player.
    """
    content = {
        "state": dataclasses.asdict(state),
        "players": {name: player.state_dict() for name, player in players.items()},
        "average": average.state_dict(),
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
    }
    with encoded(path) as buffer:
        torch.save(content, buffer)


def load_checkpoint(
    path: Path,
    players: Mapping[str, nn.Module],
    average: nn.Module,
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> Checkpoint | None:
    """Load the state of a run into its players, average and optimisers.

    Args:
        path: path of the file.
        players: networks that are trained, by name.
        average: averaged network.
        optimisers: optimiser of each player.

    Returns:
        The numbers of the run; `None` if the file does not exist.

    Raises:
        UserError: the file is damaged or belongs to another network.
    """
    if not path.is_file():
        return None
    try:
        device = next(average.parameters()).device
        content = torch.load(path, map_location=device, weights_only=True)
        for name, player in players.items():
            player.load_state_dict(content["players"][name])
            _load_optimiser(optimisers[name], content["optimisers"][name])
        average.load_state_dict(content["average"])
        return _state_of(content["state"])
    except Exception as error:  # torch reports damaged files by many kinds of errors
        raise UserError(
            f"{path} cannot be resumed from: {error}. Delete it to start over, or give another "
            "--out."
        ) from error


def _state_of(values: Mapping[str, Any]) -> Checkpoint:
    """The numbers of a run, of the right types."""
    state = Checkpoint(**values)
    kinds: dict[str, tuple[type, ...]] = {
        "step": (int,),
        "seconds": (int, float),
        "best": (int, float),
        "scores": (dict,),
        "fingerprint": (str,),
        "loss": (int, float, type(None)),
    }
    for name, kind in kinds.items():
        value = getattr(state, name)
        if type(value) not in kind:
            raise TypeError(f"{name} is {value!r:.40}")
    if state.step < 0 or not 0 <= state.seconds < math.inf:
        raise ValueError(f"step {state.step}, seconds {state.seconds}")
    return state


def _load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimiser, except for what depends on the device, which may be new."""
    current = [
        {key: group[key] for key in ("lr", "capturable")} for group in optimiser.param_groups
    ]
    optimiser.load_state_dict(state)
    for group, values in zip(optimiser.param_groups, current, strict=True):
        group.update(values)
