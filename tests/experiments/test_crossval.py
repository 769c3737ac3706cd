"""Cross validation: what is missing is run, what fails is told, and all is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.partition import fold_count
from cdal.experiments.jobs import plan, read_budget, systems_of
from cdal.recipes.recipe import load_recipe, to_yaml
from cdal.runtime.errors import UserError
from cdal.runtime.files import sole_writer
from helpers.recipes import small_recipe

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
    """A module with networks of one's own, which processes find too."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "nets_for_test.py").write_text(NETWORKS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield "nets_for_test"
    sys.modules.pop("nets_for_test", None)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(to_yaml(small_recipe(steps=2)))
    return str(tmp_path / "small.yaml")


def test_systems_are_trained_scored_and_compared_and_failures_are_rows(
    recipe: str, networks: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = [f"{networks}.NotFinite", f"{networks}.Killed", "cdal-unet"]
    words = ["crossval", recipe, "--data", str(phantoms), "--out", str(tmp_path / "out"), "--json", "--device", "cpu"]
    words += ["--segmenter", ",".join(names), "--folds", "1", "--budget", "3steps", "--training.batch", "2"]
    assert main(words) == 3
    said = capsys.readouterr()
    systems = json.loads(said.out)["systems"]
    assert list(systems) == names
    assert "loss of network is nan" in systems[names[0]]["failure"]
    assert "SIGKILL" in systems[names[1]]["failure"]
    cost = systems["cdal-unet"]["cost"]
    assert cost["training_steps"] == 3
    assert cost["peak_memory_gib"] > 0.05
    assert cost["gigaflops"] > 0
    assert load_recipe(tmp_path / "out" / "cdal-unet" / "fold-1" / "recipe.yaml").training.batch == 2
    assert (tmp_path / "out" / "comparison.html").is_file()

    # What there is to do is told without doing it.
    assert main([*words, "--folds", "1,2", "--dry-run"]) == 0
    states = json.loads(capsys.readouterr().out)
    assert [states[f"{name}, fold 1"] for name in names] == ["failed", "failed", "scored"]
    assert [states[f"{name}, fold 2"] for name in names] == ["missing"] * 3
    assert not list((tmp_path / "out").rglob("fold-2"))

    # Once more: what is done is kept to the byte, what failed is tried again and succeeds with a network that was mended.
    model = tmp_path / "out" / "cdal-unet" / "fold-1" / "model.safetensors"
    before = model.stat().st_mtime_ns
    library = tmp_path / "lib" / "nets_for_test.py"
    library.write_text(library.read_text().replace('float("nan")', "1.0").replace("signal.SIGKILL", "signal.SIGCONT"))
    library.write_text(library.read_text().replace("os.kill(os.getpid(), signal.SIGCONT)", "return self.layer(x)"))
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
    ("words", "said"),
    [
        (["--segmenter", "cdal,unheard"], "no segmenter 'unheard'"),
        (["--segmenter", "cdal,cdal"], "named twice"),
        (["--segmenter", "cdal", "--folds", "0,4"], "no fold 4"),
        (["--segmenter", "cdal", "--folds", "first"], "numbers with commas"),
        (["--segmenter", "cdal", "--budget", "soon"], "minutes, hours or steps"),
        (["--segmenter", ","], "no segmenter is named"),
        (["--segmenter", "cdal", "--folds", ""], "no fold is named"),
        (["--segmenter", "cdal", "--folds", "1,1"], "the fold 1 is named twice"),
        (["--segmenter", "cdal,unet", "--segmenter.featurs", "3"], "none of cdal, unet has the field segmenter.featurs"),
        (["--segmenter", "cdal", "--device", "tpu"], "no device 'tpu'"),
        (["--segmenter", "3d-ucaps"], "needs volumes"),
        (["--segmenter", "os.system"], "must be a class of torch.nn.Module"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_run(
    words: list[str], said: str, recipe: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["crossval", recipe, "--data", str(phantoms), "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_folder_with_another_recipe_is_refused(
    recipe: str, phantoms: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "out" / "cdal").mkdir(parents=True)
    (tmp_path / "out" / "cdal" / "fold-0").symlink_to(trained)
    assert main(["crossval", recipe, "--data", str(phantoms), "--out", str(tmp_path / "out"), "--folds", "0"]) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (None, {}),
        ("5min", {"steps": None, "minutes": 5.0}),
        ("90m", {"steps": None, "minutes": 90.0}),
        ("1.5 hours", {"steps": None, "minutes": 90.0}),
        ("500steps", {"steps": 500, "minutes": None}),
        ("1 step", {"steps": 1, "minutes": None}),
    ],
)
def test_budgets(text: str | None, fields: dict[str, object]):
    assert read_budget(text) == fields


@pytest.mark.parametrize("text", ["", "5", "0min", "-3steps", "5 parsecs"])
def test_what_is_no_budget(text: str):
    with pytest.raises(UserError, match="minutes, hours or steps"):
        read_budget(text)


def test_folds_are_those_of_the_file_or_of_the_settings(phantoms: Path):
    folder = check_folder(phantoms).folder
    assert fold_count(folder, small_recipe().data) == 4


def test_fields_of_a_segmenter_reach_the_systems_that_have_them(phantoms: Path, tmp_path: Path):
    fields = {"segmenter.features": 8, "training.batch": "2"}
    systems = systems_of(small_recipe(), ["cdal", "dynunet"], fields)
    jobs = plan(systems, check_folder(phantoms), tmp_path, [0, 2], "4steps", [7])
    assert [(job.system, job.fold, job.recipe.data.fold) for job in jobs] == [
        ("cdal", 0, 0),
        ("cdal", 2, 2),
        ("dynunet", 0, 0),
        ("dynunet", 2, 2),
    ]
    assert jobs[2].recipe.segmenter.features == 8
    assert jobs[0].recipe.segmenter == small_recipe().segmenter
    assert {(job.recipe.training.batch, job.recipe.training.steps, job.recipe.training.seed) for job in jobs} == {(2, 4, 7)}


def test_a_cross_validation_that_is_terminated_stops_its_training_with_a_checkpoint(recipe: str, phantoms: Path, tmp_path: Path):
    words = ["crossval", recipe, "--data", str(phantoms), "--out", str(tmp_path / "out"), "--folds", "0", "--budget", "60min"]
    words += ["--training.checkpoint_every", "100000", "--training.validate_every", "100000", "--device", "cpu"]
    run = tmp_path / "out" / "cdal" / "fold-0"
    with subprocess.Popen([sys.executable, "-m", "cdal", *words], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command resumes it" in said
    assert (run / "checkpoint.pt").is_file()
    with sole_writer(run):  # nobody trains there any more
        assert not (run / "failed.json").exists()
