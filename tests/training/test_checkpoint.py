"""Checkpoints: a killed run ends in the same bytes; damaged and hostile files are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cdal.recipes.recipe import to_yaml
from cdal.runtime.errors import UserError
from cdal.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cdal.training.train import train
from helpers.files import full_disk
from helpers.recipes import small_recipe

TRAININGS = """
import os, sys
from helpers.events import steps_only
from helpers.recipes import small_recipe
from cdal.training.train import train

show = steps_only(lambda now: print(now.step, flush=True))
for line in sys.stdin:  # a data folder and a run folder; the training is a process of its own
    child = os.fork()
    if not child:
        print(os.getpid(), flush=True)
        train(small_recipe(), *line.rstrip().split("\\t"), "cpu", show)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("ended by", os.WTERMSIG(status), flush=True)
"""


@pytest.fixture(scope="module")
def trainings() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything, and starts a training for each line that it reads."""
    with subprocess.Popen(
        [sys.executable, "-c", TRAININGS],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    "kill_at",
    [pytest.param(3, marks=pytest.mark.slow), 10, pytest.param(17, marks=pytest.mark.slow)],
)
def test_a_killed_run_ends_in_the_bytes_of_one_that_was_not(
    kill_at: int, trainings: subprocess.Popen[str], trained: Path, phantoms: Path, tmp_path: Path
):
    out = tmp_path / "run"
    assert trainings.stdin is not None and trainings.stdout is not None
    print(phantoms, out, sep="\t", file=trainings.stdin, flush=True)
    training = int(trainings.stdout.readline())
    while int(trainings.stdout.readline()) < kill_at:
        pass
    time.sleep(0.02 * kill_at % 0.05)
    os.kill(training, signal.SIGKILL)
    line = trainings.stdout.readline()
    while line.strip().isdigit():  # steps that were done before the signal came
        line = trainings.stdout.readline()
    assert line == f"ended by {int(signal.SIGKILL)}\n"
    train(small_recipe(), phantoms, out, "cpu")
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert (out / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path):
    path, network = tmp_path / "checkpoint.pt", torch.nn.Linear(100, 100)
    path.write_text("before")
    with full_disk(10_000), pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(path, Checkpoint(), {}, network, {})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]
    save_checkpoint(path, Checkpoint(), {}, network, {})
    assert path.stat().st_size > 40_000


def test_a_damaged_checkpoint_is_refused(trained: Path, phantoms: Path, tmp_path: Path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.yaml").write_text(to_yaml(small_recipe()))
    (out / "checkpoint.pt").write_bytes((trained / "checkpoint.pt").read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be resumed from"):
        train(small_recipe(), phantoms, out, "cpu")


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path):
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"state": Code()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="cannot be resumed"):
        load_checkpoint(tmp_path / "checkpoint.pt", {}, torch.nn.Linear(1, 1), {})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"step": "a"},
        {"step": -1},
        {"step": True},
        {"seconds": float("nan")},
        {"best": None},
        {"scores": []},
        {"loss": "low"},
        {"soul": 1},
    ],
)
def test_numbers_of_a_wrong_type_are_refused(values: dict[str, object], tmp_path: Path):
    path, network = tmp_path / "checkpoint.pt", torch.nn.Linear(1, 1)
    optimiser = torch.optim.Adam(network.parameters())
    state = Checkpoint(step=3, loss=0.5)
    save_checkpoint(path, state, {"a": network}, network, {"a": optimiser})
    assert load_checkpoint(path, {"a": network}, network, {"a": optimiser}) == state
    content = torch.load(path, weights_only=True)
    content["state"] |= values
    torch.save(content, path)
    with pytest.raises(UserError, match="cannot be resumed"):
        load_checkpoint(path, {"a": network}, network, {"a": optimiser})
