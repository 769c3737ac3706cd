"""Training, from the call to the model."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event
from cdal.runtime.files import sole_writer
from cdal.segmenters.model_file import load_model
from cdal.segmenters.segmenter import Supervised
from cdal.training.log import read_log
from cdal.training.progress import Step
from cdal.training.train import train
from helpers.events import steps_only
from helpers.recipes import small_recipe


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    trained: Path, phantoms: Path, tmp_path: Path
):
    same = train(small_recipe(), phantoms, tmp_path / "same", "cpu")
    other = train(small_recipe(seed=1), phantoms, tmp_path / "other", "cpu")
    assert same.read_bytes() == (trained / "model.safetensors").read_bytes()
    assert load_file(other)["stem.weight"].ne(load_file(same)["stem.weight"]).any()


def test_a_finished_run_is_not_trained_again(trained: Path, phantoms: Path):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    steps: list[Step] = []
    train(small_recipe(), phantoms, trained, "cpu", steps_only(steps.append))
    assert steps == []
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_other_settings_train_too(phantoms: Path, tmp_path: Path):
    recipe = replace(small_recipe(steps=3), segmenter=ImageUNetSettings(channels=(8, 12, 16)))
    segmenter, _ = load_model(train(recipe, phantoms, tmp_path / "unet", "cpu"))
    assert isinstance(segmenter, Supervised)
    bf16 = small_recipe(steps=3, precision="bf16")
    assert train(bf16, phantoms, tmp_path / "bf16", "cpu").is_file()


def test_ctrl_c_ends_the_step_and_writes_a_checkpoint(
    trained: Path, phantoms: Path, tmp_path: Path
):
    """The signal comes in the eighth step, between two checkpoints; the same command then ends in
    the same bytes.
    """

    def press(now: Step) -> None:
        if now.step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    heard: list[Event] = []
    stop = steps_only(press)
    with pytest.raises(KeyboardInterrupt):
        train(
            small_recipe(cache="disk"),
            phantoms,
            tmp_path / "run",
            "cpu",
            lambda event: (heard.append(event), stop(event)),
        )
    log = read_log(tmp_path / "run")
    assert log[-1]["step"] == 8
    assert f"{tmp_path / 'run/cases'} holds the decoded images" in heard[-1].message
    assert (tmp_path / "run/cases").is_dir()
    shown: list[float] = []
    resumed = train(
        small_recipe(),
        phantoms,
        tmp_path / "run",
        "cpu",
        steps_only(lambda now: shown.append(now.loss)),
    )
    log = read_log(tmp_path / "run")
    losses = [row["generator"] for row in log if "generator" in row]
    mean = losses[0]
    for loss in losses[1:9]:
        mean = 0.98 * mean + 0.02 * loss
    assert shown[0] == pytest.approx(mean)  # it goes on, and does not begin again
    assert not (tmp_path / "run/cases").exists()
    assert resumed.read_bytes() == (trained / "model.safetensors").read_bytes()


def test_two_trainings_do_not_share_a_folder(phantoms: Path, tmp_path: Path):
    with sole_writer(tmp_path / "run"), pytest.raises(UserError, match="another process"):
        train(small_recipe(), phantoms, tmp_path / "run", "cpu")


def test_a_3d_recipe_refuses_pictures(phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match="expected a volume"):
        train(Recipe("x"), phantoms, tmp_path / "run", "cpu")


def test_too_few_cases_for_the_folds_are_refused(phantoms: Path, tmp_path: Path):
    recipe = small_recipe()
    with pytest.raises(UserError, match="at least 40 cases"):
        train(
            replace(recipe, data=replace(recipe.data, folds=40)), phantoms, tmp_path / "run", "cpu"
        )
