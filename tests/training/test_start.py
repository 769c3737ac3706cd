"""Starting a training from a model's weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from cdal.cli import main
from cdal.datasets.phantoms import write_phantoms
from cdal.evaluation.evaluate import evaluate
from cdal.inference.ranking import rank
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import Recipe, load_recipe, override
from cdal.runtime.errors import UserError
from cdal.runtime.files import digest_of
from cdal.segmenters.ensemble import ensemble
from cdal.segmenters.model_header import read_header
from cdal.training.start import find_start
from cdal.training.train import train
from helpers.ensembles import member, of_fold, plain_recipe
from helpers.events import lines_into, steps_only
from helpers.recipes import small_recipe


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other phantoms than those that the model was trained on."""
    return write_phantoms(tmp_path_factory.mktemp("data") / "others", 8, seed=5, size=32, raters=1)


def still(**training: object) -> Recipe:
    """The small recipe with a learning rate that changes nothing."""
    settings = {"steps": 2, "learning_rate": 1e-30, "weight_decay": 0.0, "calibrate": False}
    return small_recipe(**settings | training)


def test_a_training_begins_with_the_weights_of_the_model(
    trained: Path, others: Path, tmp_path: Path
):
    model = train(still(), others, tmp_path / "run", "cpu", start=trained)
    before, after = load_file(trained / "model.safetensors"), load_file(model)
    assert before.keys() == after.keys()
    assert all(after[name].allclose(before[name], atol=1e-6) for name in before)
    apart = train(still(), others, tmp_path / "apart", "cpu")
    assert load_file(apart)["stem.weight"].ne(after["stem.weight"]).any()


def test_the_model_says_what_it_started_from(trained: Path, others: Path, tmp_path: Path):
    lines: list[str] = []
    train(still(), others, tmp_path / "run", "cpu", lines_into(lines), start=trained)
    start, header = (
        read_header(trained / "model.safetensors"),
        read_header(tmp_path / "run" / "model.safetensors"),
    )
    about = {"name": "small", "digest": digest_of(trained / "model.safetensors")}
    assert json.loads((tmp_path / "run" / "from.json").read_text()) == about
    seen = [
        start.data["images"][name] for name in (*start.data["train"], *start.data["validation"])
    ]
    assert header.data["from"] == {**about, "images": sorted(seen)}
    assert header.seen[1] > set(seen)
    assert header.seen_before[1] == set(seen)
    assert lines == []


def test_an_interrupted_run_is_resumed_only_from_the_same_model(
    trained: Path, others: Path, tmp_path: Path
):
    """It ends in the bytes of a run that was not interrupted, wherever the model lies now."""

    def stop(now: object) -> None:
        if now.step == 6:
            raise KeyboardInterrupt

    recipe = small_recipe(steps=8, checkpoint_every=2, calibrate=False)
    whole = train(recipe, others, tmp_path / "whole", "cpu", start=trained)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, others, out, "cpu", steps_only(stop), start=trained)
    moved = shutil.copytree(trained, tmp_path / "moved" / "small")
    other = member(tmp_path / "other.safetensors", seed=3)
    for wrong in (other, None):
        with pytest.raises(UserError, match="started from small"):
            train(recipe, others, out, "cpu", start=wrong)
    resumed = train(recipe, others, out, "cpu", start=moved)
    assert resumed.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match="started from random weights"):
        train(small_recipe(), others, trained, "cpu", start=other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segmenter.channels": [8, 12, 20]}, r"Give --segmenter.channels=\[8,12,16\]"),
        ({"segmenter.latent": 8, "segmenter.dice": 2.0}, "segmenter.dice=1.0"),
        ({"data.neighbours": 1}, "data.neighbours is 0 there and 1 here"),
    ],
)
def test_another_network_is_refused_with_the_remedy(
    fields: dict[str, Any], message: str, trained: Path, others: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        train(override(still(), fields), others, tmp_path / "run", "cpu", start=trained)
    assert not (tmp_path / "run").exists()


def test_another_system_is_refused_and_other_votes_are_not(trained: Path):
    start = find_start(trained)
    with pytest.raises(UserError, match="Give --segmenter cdal; or"):
        start.need_fitting(plain_recipe())
    start.need_fitting(override(still(), {"segmenter.votes": 3}))


def test_classes_have_the_names_and_the_order_of_the_model(
    trained: Path, others: Path, tmp_path: Path
):
    data = shutil.copytree(others, tmp_path / "data")
    (data / "dataset.json").write_text('{"labels": {"background": 0, "spot": 1}}')
    with pytest.raises(UserError, match=r"background, lesion, in this order.*background, spot"):
        train(still(), data, tmp_path / "run", "cpu", start=trained)
    (data / "dataset.json").unlink()
    lines: list[str] = []
    model = train(still(), data, tmp_path / "run", "cpu", lines_into(lines), start=trained)
    assert read_header(model).classes == ("background", "lesion")
    assert "1 = lesion" in lines[0]


def test_images_of_other_channels_are_refused(others: Path, tmp_path: Path):
    colours = member(tmp_path / "colours.safetensors", channels=3)
    with pytest.raises(UserError, match=r"3 channel\(s\), these have 1"):
        train(still(), others, tmp_path / "run", "cpu", start=colours)


def test_a_training_starts_from_one_model(trained: Path, tmp_path: Path):
    both = ensemble([trained, member(tmp_path / "b.safetensors")], tmp_path / "two.safetensors")
    with pytest.raises(UserError, match="an ensemble of 2 models"):
        find_start(tmp_path / "two.safetensors")
    assert both is not None


def test_licences_of_both_data_sets_are_kept(others: Path, tmp_path: Path):
    data = shutil.copytree(others, tmp_path / "data")
    declared = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**declared, "licence": "CC0"}))
    start = member(tmp_path / "a.safetensors", licence="CC-BY-SA 4.0")
    model = train(still(), data, tmp_path / "run", "cpu", start=start)
    assert read_header(model).licence == "CC-BY-SA 4.0; CC0"


def test_another_grid_is_told(trained: Path, others: Path, tmp_path: Path):
    lines: list[str] = []
    recipe = override(still(), {"data.size": [48, 48]})
    train(recipe, others, tmp_path / "run", "cpu", lines_into(lines), start=trained)
    assert any("data.size is (48, 48); small was trained with (32, 32)" in line for line in lines)


def test_test_cases_that_the_first_model_saw_are_told_and_not_scored(
    trained: Path, phantoms: Path, others: Path, tmp_path: Path
):
    """Also after another training in between, on other data."""
    lines: list[str] = []
    recipe = replace(of_fold(1), training=still().training)
    first = train(still(), others, tmp_path / "first", "cpu", start=trained)
    model = train(recipe, phantoms, tmp_path / "run", "cpu", lines_into(lines), start=first)
    assert any("4 of the 4 test cases were seen by first" in line for line in lines)
    with pytest.raises(UserError, match="started from another"):
        evaluate(model, phantoms)
    with pytest.raises(UserError, match="6 of the 8 cases were seen"):
        evaluate(model, others, split="all")
    fresh = write_phantoms(tmp_path / "fresh", 3, seed=8, size=32, raters=1)
    scored = evaluate(model, fresh, Sampling(votes=1), split="all")
    assert scored.summary()["cases"] == 3


def test_images_that_the_first_model_saw_are_not_to_be_annotated(
    trained: Path, phantoms: Path, others: Path, tmp_path: Path
):
    model = train(still(), others, tmp_path / "run", "cpu", start=trained)
    images = sorted((phantoms / "images").glob("*.png"))
    ranking = rank(model, images, count=16, method="random")
    names = read_header(trained / "model.safetensors").data["test"]
    assert {Path(row.path).stem for row in ranking.chosen} == set(names)


def test_the_derived_recipe_takes_all_but_the_parts_from_the_model(
    trained: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["train", "folder", "--data", str(others), "--from", str(trained), "--out"]
    words += [str(tmp_path / "run"), "--steps", "2", "--training.batch", "2"]
    assert main([*words, "--dry-run"]) == 0
    assert "# data: as small was trained" in capsys.readouterr().out
    assert main(words) == 0
    model, made = small_recipe(), load_recipe(tmp_path / "run" / "recipe.yaml")
    own = {"partition": "stratified", "folds": 5}
    assert made.data == replace(model.data, **own)
    assert made.segmenter == model.segmenter
    assert made.training.learning_rate == pytest.approx(model.training.learning_rate / 10)
    assert made.training.discriminator_learning_rate == model.training.discriminator_learning_rate
    assert main(words) == 0  # a finished run
    assert main([*words[:4], *words[6:]]) == 2
    assert "holds a run" in capsys.readouterr().err
