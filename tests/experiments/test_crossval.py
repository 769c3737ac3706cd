"""Cross validation: what is missing is run, failures become rows, and everything is compared."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cdal.cli import main
from cdal.experiments import crossval
from cdal.experiments.crossval import waves
from cdal.experiments.jobs import Job
from cdal.recipes.recipe import load_recipe
from cdal.runtime.execution.processes import run_verb
from cdal.runtime.files import sole_writer
from cdal.training.log import read_log
from helpers.recipes import small_recipe
from helpers.verbs import run_here

NETWORKS = """
import os, signal
from torch import nn

class Plain(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x):
        return self.layer(x)

class NotFinite(Plain):
    def forward(self, x):
        return self.layer(x) * float("nan")

class Killed(Plain):
    def forward(self, x):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with your own networks, which processes find too."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "nets_for_test.py").write_text(NETWORKS)
    monkeypatch.setenv(
        "PYTHONPATH", f"{tmp_path / 'lib'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield "nets_for_test"
    sys.modules.pop("nets_for_test", None)


@pytest.mark.slow
def test_systems_are_trained_scored_and_compared_and_failures_are_rows(
    recipe: str,
    networks: str,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """First with a process for each training, one of which is killed; then again in this one."""
    names = [f"{networks}.NotFinite", f"{networks}.Killed", "cdal-unet"]
    words = [
        "crossval",
        recipe,
        "--data",
        str(phantoms),
        "--out",
        str(tmp_path / "out"),
        "--json",
        "--device",
        "cpu",
    ]
    words += [
        "--segmenter",
        ",".join(names),
        "--folds",
        "1",
        "--budget",
        "3steps",
        "--training.batch",
        "2",
    ]
    assert main(words) == 3
    shown = capsys.readouterr()
    systems = json.loads(shown.out)["systems"]
    assert list(systems) == names
    assert "loss of network is nan" in systems[names[0]]["failure"]
    assert "SIGKILL" in systems[names[1]]["failure"]
    cost = systems["cdal-unet"]["cost"]
    assert cost["training_steps"] == 3
    assert cost["peak_memory_gib"] > 0.05
    assert cost["gigaflops"] > 0
    assert (
        load_recipe(tmp_path / "out" / "cdal-unet" / "fold-1" / "recipe.yaml").training.batch == 2
    )
    assert (tmp_path / "out" / "comparison.html").is_file()

    # A dry run shows what there is to do and does nothing.
    assert main([*words, "--folds", "1,2", "--dry-run"]) == 0
    states = json.loads(capsys.readouterr().out)
    assert [states[f"{name}, fold 1"] for name in names] == ["failed", "failed", "scored"]
    assert [states[f"{name}, fold 2"] for name in names] == ["missing"] * 3
    assert not list((tmp_path / "out").rglob("fold-2"))

    # Once more: what is done is kept to the byte, what failed is tried again and succeeds with a
    # network that was mended.
    model = tmp_path / "out" / "cdal-unet" / "fold-1" / "model.safetensors"
    before = model.stat().st_mtime_ns
    library = tmp_path / "lib" / "nets_for_test.py"
    mended = library.read_text().replace('float("nan")', "1.0")
    library.write_text(
        mended.replace("os.kill(os.getpid(), signal.SIGKILL)", "return self.layer(x)")
    )
    sys.modules.pop(networks, None)
    monkeypatch.setattr(crossval, "run_verb", run_here)
    assert main(words) == 0
    again = capsys.readouterr()
    assert model.stat().st_mtime_ns == before
    assert "[cdal-unet, fold 1] done already" in again.err
    assert not list((tmp_path / "out").rglob("failed.json"))
    numbers = json.loads(again.out)["systems"]
    assert numbers[names[1]]["mean"]["dice"] == numbers[names[0]]["mean"]["dice"]

    # Another recipe is refused, though what would be trained is done.
    (model.parent / "checkpoint.pt").unlink()
    assert main([*words, "--training.batch", "4"]) == 2
    assert "training.batch is 2 there and 4 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--segmenter", "cdal,unheard"], "no segmenter 'unheard'"),
        (["--segmenter", "cdal,cdal"], "named twice"),
        (["--segmenter", "cdal", "--folds", "0,4"], "no fold 4"),
        (["--segmenter", "cdal", "--folds", "first"], "numbers with commas"),
        (["--segmenter", "cdal", "--budget", "soon"], "minutes, hours or steps"),
        (["--segmenter", ","], "no segmenter is named"),
        (["--segmenter", "cdal", "--folds", ""], "no fold is named"),
        (["--segmenter", "cdal", "--folds", "1,1"], "the fold 1 is named twice"),
        (
            ["--segmenter", "cdal,unet", "--segmenter.featurs", "3"],
            "none of cdal, unet has the field segmenter.featurs",
        ),
        (["--segmenter", "cdal", "--device", "tpu"], "no device 'tpu'"),
        (["--segmenter", "3d-ucaps"], "needs volumes"),
        (["--segmenter", "os.system"], "must be a class of torch.nn.Module"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_run(
    words: list[str],
    message: str,
    recipe: str,
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert (
        main(["crossval", recipe, "--data", str(phantoms), "--out", str(tmp_path / "out"), *words])
        == 2
    )
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_cross_validation_that_is_terminated_stops_its_training_with_a_checkpoint(
    recipe: str,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The signal comes when the training, a process of its own, shows its first step."""
    steps: list[str] = []

    def terminated(words: Sequence[str], on_line: Callable[[str], object]) -> str:
        def watch(line: str) -> None:
            on_line(line)
            if ", loss " in line:
                steps.append(line)
                os.kill(os.getpid(), signal.SIGTERM)

        return run_verb(words, watch)

    monkeypatch.setattr(crossval, "run_verb", terminated)
    words = ["crossval", recipe, "--data", str(phantoms), "--out", str(tmp_path / "out")]
    words += ["--folds", "0", "--budget", "1000steps", "--device", "cpu"]
    words += ["--training.checkpoint_every=100000", "--training.validate_every=100000"]
    assert main(words) == 130
    error = capsys.readouterr().err
    assert steps[0].startswith("  5% step 50, loss ")
    assert f"[cdal, fold 0] {steps[0]}" in error
    assert "The same command resumes it" in error
    run = tmp_path / "out" / "cdal" / "fold-0"
    step = torch.load(run / "checkpoint.pt", weights_only=True)["state"]["step"]
    assert 50 <= step < 1000
    assert [row["step"] for row in read_log(run)] == list(range(1, step + 1))
    with sole_writer(run):  # nobody trains there any more
        assert not (run / "failed.json").exists()


def job(system: str, folder: str, *members: Job) -> Job:
    return Job(system, 0, small_recipe(), Path(folder), members=members)


def test_jobs_that_need_each_other_wait():
    first, second = job("a", "a"), job("b", "b")
    again, third = job("a, more votes", "a"), job("a, fewer votes", "a")
    other = job("a", "a-seed-1")
    ensemble = job("both", "both", first, other)
    planned = [first, second, again, third, ensemble]
    assert waves(planned) == [[first, second], [again], [third], [other], [ensemble]]
    assert waves([first]) == [[first]]


@pytest.mark.slow
def test_two_trainings_at_a_time_are_those_of_one_after_the_other(
    recipe: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["crossval", recipe, "--data", str(phantoms), "--folds", "0,1", "--budget", "2steps"]
    words += ["--segmenter", "cdal-unet", "--device", "cpu", "--json", "--out"]
    shown = []
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        assert main([*words, str(tmp_path / name), *more]) == 0
        shown.append(capsys.readouterr())
    scores = [json.loads(one.out)["systems"]["cdal-unet"]["mean"] for one in shown]
    assert scores[0] == scores[1]
    assert "[cdal-unet, fold 1] 2 of 2" in shown[1].err
    models = [tmp_path / name / "cdal-unet/fold-1/model.safetensors" for name in ("one", "two")]
    weights = [load_file(model) for model in models]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
