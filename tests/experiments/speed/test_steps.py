"""Rounds of training steps on noise, for the cost of sizes and for the benchmarks on a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from cdal.experiments.speed.steps import NoiseTraining
from helpers.recipes import small_recipe

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_every_player_has_its_turn_in_a_round(every: int, exact: bool):
    recipe = small_recipe()
    recipe = replace(recipe, segmenter=replace(recipe.segmenter, discriminator_every=every))  # type: ignore[call-arg]
    steps = NoiseTraining(recipe, 1, 2, torch.device("cpu"))
    assert steps.every == every
    before = {
        name: [weight.detach().clone() for weight in player.parameters()]
        for name, player in steps.segmenter.players().items()
    }
    steps.rounds(exact=exact)()
    for name, player in steps.segmenter.players().items():
        pairs = zip(before[name], player.parameters(), strict=True)
        assert any(not old.equal(new) for old, new in pairs), name


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the benchmarks on a GPU."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "gpu")
    monkeypatch.delitem(sys.modules, "steps", raising=False)
    return __import__("steps")


def test_the_benchmark_takes_the_same_steps(benchmark: ModuleType):
    found = benchmark.training_step("cxr-paper", (1, 32, 32), 1, "cpu", True)
    assert found["ms a step"]["float32"] > 0
    assert found["GFLOP a step"] > 0
    assert found["batch"] > 0
