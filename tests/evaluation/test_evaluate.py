"""Evaluation, as a user meets it."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow
from safetensors.torch import load_file

from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.datasets.phantoms import write_phantoms
from cdal.datasets.reading import read_case
from cdal.evaluation.agreement import majority
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.metrics import count
from cdal.evaluation.result import write_result
from cdal.imaging.grid import resized
from cdal.inference.decision import decide
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader, read_header
from helpers.files import SHAPE, volume
from helpers.recipes import small_recipe


def test_scores_are_those_of_the_masks_that_predict_writes(trained: Path, phantoms: Path, tmp_path: Path):
    evaluation = evaluate(trained, phantoms, Sampling(votes=3, seed=5))
    write_result(evaluation, tmp_path / "scores")
    folder = open_folder(phantoms)
    predict(trained, [case.image for case in folder.cases[0::4]], tmp_path / "masks", Sampling(votes=3, seed=5))
    dice = []
    for case in folder.cases[0::4]:
        raters = np.stack([label.array[0] for label in read_case(case, folder)[1]])
        mask = np.asarray(Pillow.open(tmp_path / "masks" / f"{case.name}_mask.png"))
        dice.append(count(mask == 1, majority(raters, 2) == 1).dice)
    np.testing.assert_allclose(evaluation.values("dice"), dice)
    with (tmp_path / "scores" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dice"]) for row in rows] == dice
    assert [row["case"] for row in rows] == [case.name for case in folder.cases[0::4]]
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["mean"]["dice"] == pytest.approx(np.mean(dice))


def test_json_is_one_object_and_nothing_else(trained: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", str(trained), "--data", str(phantoms), "--votes", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["cases"] == 4
    for scores in (summary["classes"]["lesion"], summary["mean"]):
        assert {"dice", "iou", "precision", "recall"} <= set(scores)
        assert all(0 <= scores[name] <= 1 for name in ("dice", "iou", "precision", "recall"))
    assert summary["seconds_per_case"] > 0
    assert summary["protocol"]["fold"] == 0
    measures = {"ged", "ged_deterministic", "matched_iou", "diversity_agreement", "rank_correlation"}
    assert set(summary["annotators"]) == measures


def test_mirror_images_are_seen_where_they_are_asked_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", str(trained), "--data", str(phantoms), "--votes", "4", "--mirror", "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked["protocol"]["flips"] == [0, 1]
    by_recipe, without = (
        evaluate(trained, phantoms, Sampling(votes=4, mirror=mirror)).summary()["mean"]["dice"] for mirror in (True, False)
    )
    assert asked["mean"]["dice"] == by_recipe != without
    # Without chance there is one vote for each of the four images, and none to see where none is possible.
    picture = next((phantoms / "images").iterdir())
    assert load(trained, Sampling(timesteps=0, mirror=True)).predict(picture).count == 4
    # A recipe whose votes see them is asked not to.
    header = read_header(trained / "model.safetensors")
    seeing = replace(header, recipe=replace(header.recipe, data=replace(header.recipe.data, mirror_votes=True)))
    save_model(tmp_path / "seeing.safetensors", load_file(trained / "model.safetensors"), seeing)
    for words, flips, dice in (([], [0, 1], by_recipe), (["--no-mirror"], [], without)):
        assert (
            main(["evaluate", str(tmp_path / "seeing.safetensors"), "--data", str(phantoms), "--votes", "4", *words, "--json"]) == 0
        )
        said = json.loads(capsys.readouterr().out)
        assert (said["protocol"]["flips"], said["mean"]["dice"]) == (flips, dice)
    assert main(["predict", str(trained), str(picture), "--out", str(tmp_path / "out"), "--votes", "2", "--mirror"]) == 0
    recipe = replace(header.recipe, data=replace(header.recipe.data, flips=()))
    save_model(tmp_path / "still.safetensors", load_file(trained / "model.safetensors"), replace(header, recipe=recipe))
    with pytest.raises(UserError, match="no axis along which a mirror image is possible"):
        load(tmp_path / "still.safetensors", Sampling(mirror=True))


def test_the_largest_components_are_kept_where_they_are_asked_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture = next((phantoms / "images").iterdir())
    plain, kept = load(trained, Sampling(votes=1)).predict(picture), load(trained, Sampling(votes=1, components=1)).predict(picture)
    np.testing.assert_array_equal(plain.probability, kept.probability)
    np.testing.assert_array_equal(kept.mask, decide(plain.probability, 1))
    np.testing.assert_array_equal(kept.mask_at((20, 20)), decide(resized(plain.on_grid, (20, 20)), 1))
    assert main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--votes", "1", "--components", "1"]) == 0
    written = np.asarray(Pillow.open(next(tmp_path.glob("*_mask.*"))))
    np.testing.assert_array_equal(written > 0, kept.mask > 0)
    assert json.loads((tmp_path / "predictions.json").read_text())["predictions"][0]["components"] == 1
    assert main(["evaluate", str(trained), "--data", str(phantoms), "--votes", "1", "--components", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["protocol"]["components"] == 1
    assert main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--components", "-1"]) == 2
    assert "data.components must be 0 or more" in capsys.readouterr().err


def test_the_temperature_is_the_models_or_the_one_asked_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = read_header(trained / "model.safetensors").temperature
    picture = next((phantoms / "images").iterdir())
    assert main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--votes", "2"]) == 0
    assert json.loads((tmp_path / "predictions.json").read_text())["predictions"][0]["temperature"] == own
    found = {}
    for temperature in ("1", "3"):
        words = ["evaluate", str(trained), "--data", str(phantoms), "--votes", "2", "--temperature", temperature, "--json"]
        capsys.readouterr()
        assert main(words) == 0
        found[temperature] = json.loads(capsys.readouterr().out)
    assert found["3"]["protocol"]["temperature"] == 3
    assert found["1"]["mean"] == found["3"]["mean"]
    assert found["1"]["uncertainty"]["nll"] != found["3"]["uncertainty"]["nll"]
    assert main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--temperature", "0"]) == 2
    assert "temperature must be more than 0" in capsys.readouterr().err


def test_a_table_is_shown(trained: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", str(trained), "--data", str(phantoms), "--votes", "1"]) == 0
    shown = capsys.readouterr().out
    assert "lesion" in shown
    assert "HD95" in shown


def test_cases_seen_in_training_are_not_scored_as_test_cases(trained: Path, phantoms: Path):
    with pytest.raises(UserError, match="were seen in training"):
        evaluate(trained, phantoms, fold=2)
    with pytest.raises(UserError, match="were seen in training"):
        evaluate(trained, phantoms, split="all")
    assert evaluate(trained, phantoms, split="train", sampling=Sampling(votes=1)).summary()["cases"] == 8


def test_other_images_of_the_same_names_are_no_training_cases(trained: Path, tmp_path: Path):
    """And they are not the model's own test cases either."""
    write_phantoms(tmp_path / "others", 16, seed=99, size=32, raters=3)
    assert evaluate(trained, tmp_path / "others", split="all", sampling=Sampling(votes=1)).summary()["cases"] == 16
    with pytest.raises(UserError, match="--split all for other data"):
        evaluate(trained, tmp_path / "others", Sampling(votes=1))


def test_scores_of_several_protocols_from_one_pass(trained: Path, phantoms: Path, tmp_path: Path):
    names = ["own-grid", "cxr-256", "own-grid"]
    evaluation = evaluate(trained, phantoms, Sampling(votes=1), scorings=names)
    write_result(evaluation, tmp_path)
    summary = evaluation.summary()
    assert summary["cases"] == 4
    assert summary["protocol"]["scoring"] == "own-grid"
    alone = evaluate(trained, phantoms, Sampling(votes=1), scorings=["cxr-256"]).summary()
    assert summary["also"]["cxr-256"]["mean"]["dice"] == pytest.approx(alone["mean"]["dice"])
    assert summary["mean"]["dice"] == pytest.approx(alone["mean"]["dice"], abs=0.15)
    assert alone["mean"]["hd95"] is None  # a stretched grid has no unit
    with pytest.raises(UserError, match="no scoring protocol 'mine'"):
        evaluate(trained, phantoms, scorings=["mine"])


def test_votes_on_disk_are_classes(volume_model: Path, tmp_path: Path):
    predict(volume_model, [volume(tmp_path / "a.nii.gz")], tmp_path / "out", Sampling(votes=3), save=("votes",))
    stored = np.asarray(nib.load(tmp_path / "out/a_votes.nii.gz").dataobj)
    assert stored.shape == (*SHAPE, 3)
    assert stored.dtype == np.uint8
    assert set(np.unique(stored)) <= {0, 1, 2}


def test_arrays_that_would_be_misread_are_refused(trained: Path, tmp_path: Path):
    with pytest.raises(UserError, match="channels first"):
        load(trained).predict(np.zeros((32, 32, 3)))
    settings = replace(small_recipe(), data=DataSettings(spatial_dims=2, size=(32, 32), resize=(32, 32), intensities="range"))
    segmenter = build_segmenter(settings, 1, 2)
    save_model(tmp_path / "r.safetensors", segmenter.generator.state_dict(), ModelHeader(settings, ("background", "a"), 1))
    predictor = load(tmp_path / "r.safetensors")
    picture = np.random.default_rng(0).integers(0, 255, size=(40, 50))
    with pytest.raises(UserError, match="expected uint8"):
        predictor.predict(picture)
    assert predictor.predict(picture.astype(np.uint8)).mask.shape == (40, 50)
    assert predictor.predict(picture / 255).mask.shape == (40, 50)
    with pytest.raises(UserError, match="sees whole"):
        predictor.predict(np.zeros((40, 50, 20), np.uint8))


def test_a_case_that_cannot_be_read_is_told_and_the_others_are_scored(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "images" / "phantom_0004.png").write_text("no picture")
    assert main(["evaluate", str(trained), "--data", str(tmp_path / "data"), "--votes", "1", "--json"]) == 3
    out, error = capsys.readouterr()
    assert json.loads(out)["cases"] == 3
    assert "phantom_0004.png" in json.loads(out)["failed"]["phantom_0004"]
    assert "phantom_0004.png" in error


def test_the_majority_is_the_class_most_chose():
    raters = np.array([[0, 1, 2, 1], [0, 1, 2, 0], [1, 2, 2, 2]])
    np.testing.assert_array_equal(majority(raters, 3), [0, 1, 2, 0])
