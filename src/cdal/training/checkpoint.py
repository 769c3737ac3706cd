"""What a run needs to go on exactly where it stopped, in one file that is written whole or not at all."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

CHECKPOINT = "checkpoint.pt"
"""Its name in the run folder."""


@dataclass
class Checkpoint:
    """The numbers of a run; weights and optimisers are stored beside them.

    Attributes:
        step: steps done.
        seconds: of training so far, over all resumptions.
        best: highest mean validation Dice.
        scores: Dice by class at the last validation.
        fingerprint: of the training data.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    scores: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""


def save_checkpoint(
    path: Path,
    state: Checkpoint,
    players: Mapping[str, nn.Module],
    average: nn.Module,
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Write the state of a run."""
    content = {
        "state": dataclasses.asdict(state),
        "players": {name: player.state_dict() for name, player in players.items()},
        "average": average.state_dict(),
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
    }
    buffer = io.BytesIO()  # torch's own writer names a full disk in words of its own
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_checkpoint(
    path: Path,
    players: Mapping[str, nn.Module],
    average: nn.Module,
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> Checkpoint | None:
    """Bring players, average and optimisers to the state in the file; none where there is no file.

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
        return Checkpoint(**content["state"])
    except Exception as error:  # torch names damaged files in many ways
        raise UserError(f"{path} cannot be resumed from: {error}. Take it away to begin anew, or give another --out.") from error


def _load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The state, but for what belongs to the device, which may be another one now."""
    own = [{key: group[key] for key in ("lr", "capturable")} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, kept in zip(optimiser.param_groups, own, strict=True):
        group.update(kept)
