"""A task with two answers: the same image is annotated whole by some, and as empty by others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.segmenters.segmenter import Segmenter

SIDE = 8


def two_modes(rng: torch.Generator, count: int = 8) -> Batch:
    """A square in noise; half of the labels are the square, the others are empty."""
    square = torch.zeros(SIDE, SIDE, dtype=torch.long)
    square[2:6, 2:6] = 1
    image = square + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=rng)
    seen = torch.rand(count, 1, 1, generator=rng) < 0.5
    return Batch(image, seen * square, tuple(map(str, range(count))))


def learn(segmenter: Segmenter, steps: int, rng: torch.Generator, rate: float = 1e-2) -> Tensor:
    """Train on `two_modes` and return the loss at every step."""
    network = segmenter.train().players()["network"]
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    losses = []
    for step in range(steps):
        (turn,) = segmenter.turns(two_modes(rng), rng, step)
        optimiser.zero_grad()
        turn.loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(turn.loss.detach())
    return torch.stack(losses)


def areas(segmenter: Segmenter, votes: int, rng: torch.Generator) -> Tensor:
    """Foreground pixels of votes on one image of `two_modes`; the square has 16."""
    drawn = segmenter.eval().sample(two_modes(rng, 1).image, votes, rng)
    return drawn[:, 0].argmax(dim=1).flatten(1).sum(dim=1)
