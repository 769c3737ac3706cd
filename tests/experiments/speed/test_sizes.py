"""What a training of each size costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.experiments.speed import sizes as module
from cdal.experiments.speed.sizes import StepCost, choose, step_cost
from cdal.recipes import with_segmenter
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.trust import trust_own_network
from helpers.recipes import small_recipe

SMALL = StepCost(parameters=1, gigaflop=1.0, seconds=1.0, memory_gib=1.0)


def test_operations_of_one_convolution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By hand: 3 x 3 x 1 x 2 multiply-adds a voxel, forward and for the weight's gradient."""
    text = """
from torch import nn

class Plain(nn.Conv2d):
    def __init__(self, n_channels, n_classes, spatial_dims, img_size):
        super().__init__(n_channels, n_classes, 3, padding=1)
"""
    (tmp_path / "plain_of_sizes.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    trust_own_network("plain_of_sizes.Plain")
    recipe = with_segmenter(small_recipe(), "plain_of_sizes.Plain")
    cost = step_cost(recipe, 1, 2, "cpu")
    assert cost.parameters == 3 * 3 * 2 + 2
    assert cost.gigaflop * 1e9 == pytest.approx(2 * 2 * 9 * 2 * 32 * 32 * recipe.training.batch)
    assert cost.seconds > 0


def test_turns_of_the_discriminator_count_by_their_share():
    """Every second step as many of them as every fourth; the rest of a step is the same."""
    costs = {}
    for every in (1, 2, 4):
        recipe = small_recipe()
        settings = replace(recipe.segmenter, discriminator_every=every)  # type: ignore[call-arg]
        costs[every] = step_cost(replace(recipe, segmenter=settings), 1, 2, "cpu").gigaflop
    assert costs[1] - costs[2] == pytest.approx(2 * (costs[2] - costs[4]), rel=1e-6)
    assert costs[1] > costs[2]


def test_annotators_are_part_of_the_batch():
    recipe = small_recipe()
    several = replace(recipe, training=replace(recipe.training, annotators=3))
    assert step_cost(several, 1, 2, "cpu").gigaflop > step_cost(recipe, 1, 2, "cpu").gigaflop


def test_the_cost_in_words():
    recipe = small_recipe(steps=120, minutes=None)
    assert SMALL.about(recipe).endswith("120 steps: 2 minutes and the validations")
    assert SMALL.about(small_recipe(steps=12000)).endswith(
        "12000 steps: 3.3 hours and the validations"
    )
    timed = small_recipe(steps=None, minutes=2.0)
    assert SMALL.about(timed).endswith("some 120 steps in 2 minutes")


@pytest.mark.parametrize(
    "budget, limit, chosen, told", [(100, None, "L", 3), (25, None, "M", 3), (100, 1.5, "S", 2)]
)
def test_the_largest_that_is_affordable(budget: float, limit: float | None, chosen: str, told: int):
    """Sizes of 10, 20 and 40 minutes that need 1, 2 and 4 GiB."""
    recipes = {
        name: small_recipe(steps=600 * factor) for name, factor in (("S", 1), ("M", 2), ("L", 4))
    }

    def cost(recipe: Recipe) -> StepCost:
        return replace(SMALL, memory_gib=(recipe.training.steps or 0) / 600)

    lines: list[str] = []
    assert choose(recipes, cost, budget, limit, lines.append) == chosen
    assert len(lines) == told


def test_a_size_that_does_not_fit_ends_the_search():
    def cost(recipe: Recipe) -> StepCost:
        if recipe.training.steps == 2:
            raise UserError("does not fit into the memory")
        return SMALL

    lines: list[str] = []
    recipes = {"S": small_recipe(steps=1), "M": small_recipe(steps=2), "L": small_recipe(steps=3)}
    assert choose(recipes, cost, 60, None, lines.append) == "S"
    assert lines[-1] == "size M: does not fit into the memory"


def test_a_dry_run_tells_the_cost_of_a_size(
    phantoms: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    seen = []

    def cost(recipe: Recipe, channels: int, classes: int, device: str) -> StepCost:
        seen.append((channels, classes))
        return SMALL

    monkeypatch.setattr(module, "step_cost", cost)
    words = ["train", "phantoms", "--data", str(phantoms), "--size", "M", "--dry-run"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "# cost on this machine: 0.00 M parameters; a step: 1 GFLOP, 1 s, 1.0 GiB" in out
    assert "channels: [32, 64, 128" in out
    assert seen == [(1, 2)]


def test_auto_is_affordable_and_stays_the_same(
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """A slower machine, or a moment when it is slow, does not change a run that has begun."""
    run = tmp_path / "run"
    words = ["train", "phantoms", "--data", str(phantoms), "--out", str(run), "--size", "auto"]
    words += ["--steps", "1", "--training.validation_cases", "1", "--data.size=[32,32]"]
    words += ["--training.calibrate", "false", "--segmenter.votes", "2"]
    monkeypatch.setattr(
        module, "step_cost", lambda *_: replace(SMALL, seconds=60 * module.NIGHT + 1)
    )
    assert main(words) == 0
    assert "size: S, the largest for 480 minutes" in capsys.readouterr().err
    monkeypatch.setattr(module, "step_cost", lambda *_: pytest.fail("measured again"))
    assert main(words) == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["--size", "huge"], "no size 'huge'"),
        (["--size", "M", "--from", "cxr"], "keeps its size"),
    ],
)
def test_sizes_that_cannot_be(
    words: list[str],
    message: str,
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    given = ["train", "phantoms", "--data", str(phantoms), "--out", str(tmp_path / "run")]
    assert main([*given, *words]) == 2
    assert message in capsys.readouterr().err
