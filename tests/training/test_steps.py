"""One training step: the turns of all players. What a GPU records of them is tested
in `test_cuda`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.runtime.seeds import generator
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import Segmenter, Turn
from cdal.training.steps import Steps
from helpers.recipes import small_recipe
from helpers.systems import random_batch


class Chase(Segmenter):
    """Two numbers: the first is drawn to a noise, the second to where the first has just gone."""

    predictor = "first"

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

    def players(self) -> dict[str, nn.Module]:
        return {"first": self.first, "second": self.second}

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        for player, goal in (
            ("first", torch.randn((), generator=rng)),
            ("second", self.first.weight.detach()),
        ):
            loss = (self.players()[player].weight - goal).square().sum() / 2
            yield Turn(player, loss, {"step": torch.tensor(step)})

    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        raise NotImplementedError

    @property
    def stochastic(self) -> bool:
        return False


@pytest.mark.parametrize("clip", [100.0, 0.1])
def test_players_move_in_turn_each_by_its_own_optimiser(clip: float):
    """Steps of gradient descent by hand; the second player sees where the first has gone."""
    segmenter = Chase()
    optimisers = {
        "first": torch.optim.SGD(segmenter.first.parameters(), 0.5),
        "second": torch.optim.SGD(segmenter.second.parameters(), 0.25),
    }
    first, second = segmenter.first.weight.item(), segmenter.second.weight.item()
    steps = Steps(segmenter, optimisers, clip, Fabric(accelerator="cpu"))
    moves = steps(Batch(torch.zeros(1), torch.zeros(1), ()), (7, "turns", 3), 3)

    goal = float(torch.randn((), generator=generator(7, "turns", 3)))
    pull = first - goal
    now = first - 0.5 * max(-clip, min(clip, pull))
    then = second - 0.25 * max(-clip, min(clip, second - now))
    assert [move.player for move in moves] == ["first", "second"]
    assert float(moves[0].loss) == pytest.approx(pull**2 / 2, rel=1e-5)
    assert float(moves[0].norm) == pytest.approx(abs(pull), rel=1e-5)
    assert segmenter.first.weight.item() == pytest.approx(now, abs=1e-4)
    assert segmenter.second.weight.item() == pytest.approx(then, abs=1e-4)
    assert moves[1].terms["step"] == 3
    assert steps.about() == "one operation at a time"


def test_the_kind_of_a_step_says_which_turns_it_has():
    """D every fourth step, its penalty at every fourth of these; steps of one kind have the same
    turns and terms.
    """
    recipe = small_recipe()
    segmenter = build_segmenter(recipe, 1, 2, training=True)
    by_kind: dict[object, set[tuple[tuple[str, ...], ...]]] = {}
    for step in range(34):
        turns = list(
            segmenter.turns(random_batch(recipe, 2), torch.Generator().manual_seed(0), step)
        )
        found = tuple((turn.player, *sorted(turn.terms)) for turn in turns)
        by_kind.setdefault(segmenter.kind(step), set()).add(found)
        assert (turns[0].player == "discriminator") == (step % 4 == 0)
        assert ("r1" in turns[0].terms) == (step % 16 == 0)
    assert len(by_kind) == 3
    assert all(len(found) == 1 for found in by_kind.values())
