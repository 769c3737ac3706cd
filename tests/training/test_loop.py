"""The training loop: it learns, reports, ends in time, and stops where a loss is not finite."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cdal.runtime.errors import UserError
from cdal.training import loop
from cdal.training.log import read_log
from cdal.training.progress import Step
from cdal.training.train import train
from helpers.events import steps_only
from helpers.recipes import small_recipe


def test_training_lowers_the_loss(trained: Path):
    losses = [row["generator"] for row in read_log(trained) if "generator" in row]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_progress_is_reported_after_each_step(phantoms: Path, tmp_path: Path):
    steps: list[Step] = []
    train(
        small_recipe(steps=4, validate_every=2),
        phantoms,
        tmp_path / "run",
        "cpu",
        steps_only(steps.append),
    )
    assert [now.step for now in steps] == [1, 2, 3, 4]
    assert steps[-1].done == 1
    assert "lesion" in steps[-1].scores


class Clock:
    """A tenth of a second passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.1
        return self.now

    perf_counter = monotonic


def test_minutes_end_a_run_and_its_learning_rate(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The rate falls along half a cosine to a hundredth of its peak; the last step begins just
    before the end.
    """
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "process_time", lambda: clock.now)
    steps: list[Step] = []
    recipe = small_recipe(steps=None, minutes=0.1, warmup=0.0)
    train(recipe, phantoms, tmp_path / "run", "cpu", steps_only(steps.append))
    assert len(steps) > 5
    assert steps[-2].done < 1 == steps[-1].done
    assert steps[-2].seconds_left == pytest.approx(6 * (1 - steps[-2].done))
    (group,) = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["optimisers"][
        "generator"
    ]["param_groups"]
    fall = 0.01 + 0.99 * (1 + math.cos(math.pi * steps[-2].done)) / 2
    assert group["lr"] == pytest.approx(recipe.training.learning_rate * fall)
    assert fall < 0.1
    assert steps[-1].message == ""
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_training_without_a_processor_says_so(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Others use the machine: the minutes pass, and the processor time does not."""
    monkeypatch.setattr(loop, "time", Clock())
    monkeypatch.setattr(loop, "process_time", lambda: 7.0)
    steps: list[Step] = []
    recipe = small_recipe(steps=None, minutes=0.1)
    train(recipe, phantoms, tmp_path / "run", "cpu", steps_only(steps.append))
    assert {step.message for step in steps[:-1]} == {""}
    assert "for 0% of its 0.1 minutes" in steps[-1].message
    assert f"reached step {steps[-1].step}" in steps[-1].message


def test_a_loss_that_is_not_finite_stops_and_names_the_cases(phantoms: Path, tmp_path: Path):
    out = tmp_path / "run"
    wild = small_recipe(steps=40, learning_rate=1e18, clip=1e30, warmup=0.0, checkpoint_every=1)
    with pytest.raises(UserError, match="phantom_00") as caught:
        train(wild, phantoms, out, "cpu")
    assert "not finite" in str(caught.value)
    assert not list(out.glob(".cdal-*"))
    assert "last good checkpoint" in str(caught.value) or not (out / "checkpoint.pt").exists()
