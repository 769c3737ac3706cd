"""What a training of each size costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.experiments.speed import sizes as module
from cdal.experiments.speed import steps as noise
from cdal.experiments.speed.sizes import Plan, StepCost, choose, step_cost
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
    assert SMALL.about(recipe).endswith("; 120 steps: 2 minutes and the validations")
    assert SMALL.about(small_recipe(steps=4)).endswith("; 4 steps: 4 seconds and the validations")
    assert SMALL.about(small_recipe(steps=12000)).endswith(
        "12000 steps: 3.3 hours and the validations"
    )
    for steps, told in ((None, 300), (4, 4), (9999, 300)):
        timed = SMALL.about(small_recipe(steps=steps, minutes=5.0))
        assert f"; {told} steps: " in timed


def plans(*steps: int | None) -> dict[str, Plan]:
    """One for each number of steps."""
    return {name: Plan(small_recipe(steps=n), n) for name, n in zip("SML", steps, strict=False)}


@pytest.mark.parametrize(
    "budget, limit, chosen, told, why",
    [
        (100, None, "L", 3, "affordable"),
        (25, None, "M", 3, "its 2400 steps take 40 minutes, too long for 25 minutes"),
        (5, None, "S", 1, "its 600 steps take 10 minutes, too long for 5 minutes"),
        (100, 1.5, "S", 2, "too large for 1.5 GiB"),
    ],
)
def test_the_largest_that_is_affordable(
    budget: float, limit: float | None, chosen: str, told: int, why: str
):
    """Sizes of 10, 20 and 40 minutes that need 1, 2 and 4 GiB. The last line says why it ends."""

    def cost(recipe: Recipe) -> StepCost:
        return replace(SMALL, memory_gib=(recipe.training.steps or 0) / 600)

    lines: list[str] = []
    name, measured = choose(plans(600, 1200, 2400), cost, budget, limit, lines.append)
    assert name == chosen
    assert measured == cost(plans(600, 1200, 2400)[chosen].recipe)
    assert len(lines) == told
    assert lines[-1].endswith(f"; {why}")


def test_a_size_that_does_not_fit_ends_the_search():
    def cost(recipe: Recipe) -> StepCost:
        if recipe.training.steps == 2:
            raise UserError("does not fit into the memory")
        return SMALL

    lines: list[str] = []
    assert choose(plans(1, 2, 3), cost, 60, None, lines.append) == ("S", SMALL)
    assert lines[-1] == "size M: does not fit into the memory"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_too_little_memory_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch):
    """PyTorch has an error of its own on a GPU, and a plain one on a CPU."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(noise, "build_segmenter", fail)
    with pytest.raises(UserError, match="does not fit into the memory"):
        step_cost(small_recipe(), 1, 2, "cpu")


def test_other_errors_of_a_step_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(noise, "build_segmenter", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        step_cost(small_recipe(), 1, 2, "cpu")


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


def begun(phantoms: Path, run: Path) -> list[str]:
    words = ["train", "phantoms", "--data", str(phantoms), "--out", str(run), "--size", "auto"]
    words += ["--steps", "1", "--training.validation_cases", "1", "--data.size=[32,32]"]
    return [*words, "--training.calibrate", "false", "--segmenter.votes", "2"]


def test_auto_is_affordable_and_stays_the_same(
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """A slower machine, or a moment when it is slow, does not change a run that has begun."""
    words = begun(phantoms, tmp_path / "run")
    slow = replace(SMALL, seconds=60 * module.NIGHT + 1)
    monkeypatch.setattr(module, "step_cost", lambda *_: slow)
    assert main(words) == 0
    assert "size: S\n" in capsys.readouterr().err
    monkeypatch.setattr(module, "step_cost", lambda *_: pytest.fail("measured again"))
    assert main(words) == 0
    assert main([*words, "--training.cache", "disk"]) == 0
    assert main([*words, "--seed", "5"]) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--size", "huge"], "no size 'huge'"),
        (["--size", ""], "no size ''"),
        (["--size", "M", "--from", "cxr"], "keeps its size"),
        (["--size", "M", "--segmenter", "unet"], "has unet"),
        (["--size", "auto"], "needs the number of steps"),
        (["--size", "auto", "--steps", "4", "--devices", "2"], "Name the size"),
    ],
)
def test_sizes_that_cannot_be(
    words: list[str],
    message: str,
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "step_cost", lambda *_: pytest.fail("measured"))
    given = ["train", "phantoms", "--data", str(phantoms), "--out", str(tmp_path / "run")]
    assert main([*given, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("processes, nodes, refused", [(1, 1, False), (2, 1, True), (1, 2, True)])
def test_several_processes_of_torchrun_do_not_choose_a_size(
    processes: int,
    nodes: int,
    refused: bool,
    phantoms: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": processes * nodes}
    for name, value in {**place, "LOCAL_WORLD_SIZE": processes}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(module, "step_cost", lambda *_: SMALL)
    words = ["train", "phantoms", "--data", str(phantoms), "--size", "auto", "--steps", "4"]
    assert main([*words, "--device", "cpu", "--dry-run"]) == (2 if refused else 0)
    told = capsys.readouterr().err
    assert ("Name the size for 2 devices" in told) == refused


def test_a_comparison_names_its_size_and_what_each_system_costs(
    phantoms: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "step_cost", lambda *_: SMALL)
    words = ["crossval", "phantoms", "--data", str(phantoms), "--out", "nowhere", "--dry-run"]
    assert main([*words, "--size", "auto"]) == 2
    assert "`auto` is for cdal train" in capsys.readouterr().err
    words += ["--folds", "0,1", "--segmenter", "cdal,cdal-unet", "--budget", "7steps", "--json"]
    assert main([*words, "--size", "m"]) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)) == 4
    for name in ("cdal", "cdal-unet"):
        assert shown.err.count(f"{name}, size M: 0.00 M parameters; a step: 1 GFLOP") == 1
    assert shown.err.count("7 steps: 7 seconds and the validations") == 2
    assert main(words) == 0
    assert "size" not in capsys.readouterr().err
