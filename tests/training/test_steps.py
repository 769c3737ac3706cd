"""One training step: the turns of all players. What a GPU records of them is tested
in `test_cuda`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cdal.datasets.batch import Batch
from cdal.imaging.position import positions
from cdal.runtime.seeds import generator
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import Segmenter, Turn
from cdal.training.steps import Steps
from helpers.recipes import small_recipe
from helpers.systems import APPLICABLE, random_batch, sized, small


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


class AskingTheDevice(TorchDispatchMode):
    """Counts operations whose result's value or shape the processor has to wait for.

    A GPU cannot record a step with one of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func.overloadpacket.__name__ in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func in WAITED_FOR or by_mask:
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


WAITED_FOR = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten._unique2.default,
)

RECORDED = [(data, system) for data, system in APPLICABLE if system != "em-segcaps"]
"""What is recorded on a GPU; the margin of EM routing grows from step to step."""


@pytest.mark.parametrize(("data", "system"), [*RECORDED, ("lidc", "cdal")])
def test_a_step_asks_the_device_for_nothing(
    data: str, system: str, monkeypatch: pytest.MonkeyPatch
):
    """PyTorch's `one_hot` looks at its input on the CPU alone."""
    monkeypatch.setattr(F, "one_hot", lambda label, classes: torch.eye(classes).long()[label])
    recipe = sized("lidc", (32, 32)) if data == "lidc" else small(data, system)
    batch = random_batch(recipe, 2)
    if data == "lidc":
        places = torch.tensor(positions(recipe.data.size)).expand(len(batch.image), -1, -1, -1)
        others = torch.stack([batch.label.flip(axis) for axis in (1, 2)])
        batch = batch._replace(image=torch.cat([batch.image, places], dim=1), others=others)
    segmenter = build_segmenter(recipe, 1, 2, training=True)
    with AskingTheDevice() as mode:
        for step in range(4):  # also a step of the discriminator with its penalty
            for move in segmenter.train().turns(batch, generator(0, step), step):
                move.loss.backward()
    assert mode.asked == []
