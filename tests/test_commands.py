"""Prediction, evaluation and the command line, as a user meets them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file

import cdal
from cdal.cli import main
from cdal.data.folder import open_folder
from cdal.data.phantoms import write_phantoms
from cdal.data.reading import read_case
from cdal.diffusion.settings import ImageUNetSettings
from cdal.errors import UserError
from cdal.evaluation import evaluate, majority
from cdal.factory import build_segmenter
from cdal.metrics import count
from cdal.model_file import save_model
from cdal.model_header import ModelHeader, read_header
from cdal.prediction import predict
from cdal.predictor import load
from cdal.recipe import DataSettings, Recipe
from cdal.votes import spread
from conftest import small_recipe

SHAPE = (14, 19, 11)
OBLIQUE = np.array([[0.1, -1.9, 0.2, 30.0], [1.2, 0.1, 0.1, -20.0], [0, 0.15, -2.4, 12.0], [0, 0, 0, 1]])


@pytest.fixture(scope="session")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3D model with random weights: enough for everything but scores."""
    recipe = replace(small_recipe(), data=DataSettings(spatial_dims=3, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0), flips=(0,)))
    torch.manual_seed(0)
    segmenter = build_segmenter(recipe, 1, 3)
    torch.nn.init.normal_(segmenter.generator.head.weight, std=0.2)
    path = tmp_path_factory.mktemp("models") / "volume.safetensors"
    save_model(path, segmenter.generator.state_dict(), ModelHeader(recipe, ("background", "a", "b"), 1))
    return path


def volume(path: Path, affine: np.ndarray = OBLIQUE, shape: tuple[int, ...] = SHAPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


# Prediction


def test_a_mask_lies_on_its_image(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "scan.nii.gz")
    kinds = ("mask", "probability", "uncertainty", "votes")
    written = predict(volume_model, [source], tmp_path / "out", votes=3, save=kinds)
    assert not written.failed
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"scan_{k}.nii.gz" for k in kinds} | {"predictions.json"}
    expected = {"mask": SHAPE, "probability": (*SHAPE, 2), "uncertainty": SHAPE, "votes": (*SHAPE, 3)}
    for kind, shape in expected.items():
        file = nib.load(tmp_path / "out" / f"scan_{kind}.nii.gz")
        assert file.shape == shape
        np.testing.assert_allclose(file.affine, OBLIQUE, atol=1e-6)
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    mask = np.asarray(nib.load(tmp_path / "out" / "scan_mask.nii.gz").dataobj)
    assert row["volume"]["a"] == pytest.approx((mask == 1).sum() * abs(np.linalg.det(OBLIQUE[:3, :3])), rel=0.05)


def test_the_class_is_decided_after_resampling(volume_model: Path, tmp_path: Path):
    prediction = load(volume_model).predict(volume(tmp_path / "a.nii.gz"), votes=4, keep_votes=True)
    np.testing.assert_array_equal(prediction.mask, prediction.probability.argmax(axis=0))
    np.testing.assert_allclose(prediction.votes.mean(axis=0), prediction.probability, atol=1e-5)
    np.testing.assert_allclose(prediction.probability.sum(axis=0), 1, atol=1e-4)
    assert prediction.uncertainty.max() > 0


def test_the_same_volume_in_another_orientation_gets_the_same_mask(volume_model: Path, tmp_path: Path):
    """Stored axes are permuted and flipped; the voxels and their places are the same, and so is the answer."""
    first = nib.load(volume(tmp_path / "a.nii.gz", affine=np.diag([1.0, 1.0, 1.0, 1.0])))
    turned = first.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "b.nii.gz")
    predictor = load(volume_model)
    here = predictor.predict(tmp_path / "a.nii.gz", seed=3, case="x").probability
    there = predictor.predict(tmp_path / "b.nii.gz", seed=3, case="x").probability
    back = np.stack(
        [
            np.asarray(
                nib.Nifti1Image(p, turned.affine)
                .as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(first.affine)))
                .dataobj
            )
            for p in there
        ]
    )
    np.testing.assert_allclose(back, here, atol=1e-3)


def test_arrays_are_images_too(volume_model: Path, trained: Path):
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert cdal.load(volume_model).predict(array).mask.shape == SHAPE
    picture = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    prediction = cdal.load(trained).predict(picture, votes=8)
    assert prediction.mask.shape == (40, 30)
    np.testing.assert_array_equal(cdal.load(trained).predict(picture[None], votes=8).mask, prediction.mask)


def test_a_seed_repeats_and_another_does_not(volume_model: Path, tmp_path: Path):
    source, predictor = volume(tmp_path / "a.nii.gz"), load(volume_model)
    first, again, other = (predictor.predict(source, seed=seed).probability for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_votes_differ_and_the_twin_has_one_opinion(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "a.nii.gz", affine=np.eye(4))
    prediction = load(volume_model).predict(source, votes=6, keep_votes=True)
    np.testing.assert_allclose(prediction.uncertainty, spread(prediction.votes), atol=1e-3)
    assert prediction.uncertainty.mean() > 0.01
    twin = load(volume_model, timesteps=0)
    assert twin.predict(source, votes=6, keep_votes=True).votes.shape[0] == 1
    twin.recipe = replace(twin.recipe, data=replace(twin.recipe.data, mirror_votes=True))
    assert twin.predict(source, votes=6, keep_votes=True).votes.shape[0] == 2  # one for each mirror image
    with pytest.raises(UserError, match="divisor"):
        load(volume_model, timesteps=3)


def test_pictures_get_pictures(trained: Path, phantoms: Path, tmp_path: Path):
    code = main(["predict", str(trained), str(phantoms / "images"), "--out", str(tmp_path), "--save", "mask", "uncertainty"])
    assert code == 0
    mask = np.asarray(Pillow.open(tmp_path / "phantom_0003_mask.png"))
    assert mask.shape == (32, 32)
    assert mask.max() <= 1
    assert len(list(tmp_path.glob("*_mask.png"))) == 16
    # A second call into the same folder takes no result for an image.
    assert main(["predict", str(trained), str(tmp_path), "--out", str(tmp_path)]) == 2
    assert len(list(tmp_path.glob("*_mask.png"))) == 16


def test_files_that_no_prediction_made_are_kept(trained: Path, phantoms: Path, tmp_path: Path):
    """A mask drawn by hand is not replaced, an image called mask is segmented, and our own results may be made again."""
    names = [case.name for case in open_folder(phantoms).cases[:2]]
    (tmp_path / f"{names[0]}.png").write_bytes((phantoms / "images" / f"{names[0]}.png").read_bytes())
    (tmp_path / "skin_mask.png").write_bytes((phantoms / "images" / f"{names[1]}.png").read_bytes())
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / f"{names[0]}_mask.png").write_bytes(b"drawn by hand")
    for _ in range(2):
        written = predict(trained, [tmp_path], tmp_path / "hand", votes=1)
        assert [Path(row["input"]).name for row in written.done] == ["skin_mask.png"]
        assert "was not made by a prediction" in written.failed[str(tmp_path / f"{names[0]}.png")]
    assert (tmp_path / "hand" / f"{names[0]}_mask.png").read_bytes() == b"drawn by hand"


def test_results_of_one_name_and_two_formats_stand_side_by_side(trained: Path, phantoms: Path, tmp_path: Path):
    picture = open_folder(phantoms).cases[0].image
    scan = volume(tmp_path / f"{picture.stem}.nii.gz")
    for _ in range(2):
        assert not predict(trained, [picture, scan], tmp_path / "out", votes=1).failed
    suffixes = {p.name.removeprefix(f"{picture.stem}_mask") for p in (tmp_path / "out").glob("*_mask*")}
    assert suffixes == {".png", ".nii.gz"}


def test_the_record_keeps_what_earlier_calls_wrote(trained: Path, phantoms: Path, tmp_path: Path):
    images = [case.image for case in open_folder(phantoms).cases[:3]]
    predict(trained, images[:2], tmp_path, votes=1)
    (tmp_path / f"{images[0].stem}_mask.png").unlink()
    predict(trained, images[1:], tmp_path, votes=3)
    rows = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [(Path(row["input"]).stem, row["vote_count"]) for row in rows] == [(p.stem, 3) for p in images[1:]]


def test_votes_are_those_that_were_drawn(trained: Path, phantoms: Path, tmp_path: Path):
    written = predict(trained, [open_folder(phantoms).cases[0].image], tmp_path, votes=9, timesteps=0)
    assert written.done[0]["vote_count"] == 1


@pytest.mark.parametrize("mode", ["P", "LA"])
def test_a_picture_is_the_same_in_every_mode(mode: str, trained: Path, phantoms: Path, tmp_path: Path):
    gray = Pillow.open(open_folder(phantoms).cases[0].image)
    if mode == "LA":
        gray.convert("LA").save(tmp_path / "a.png")
    else:
        order = np.random.default_rng(0).permutation(256)
        indices = Pillow.fromarray(np.argsort(order).astype(np.uint8)[np.asarray(gray)], mode="P")
        indices.putpalette(np.repeat(order.astype(np.uint8), 3).tobytes())
        indices.save(tmp_path / "a.png")
    predictor = load(trained)
    expected = predictor.predict(open_folder(phantoms).cases[0].image, case="x").probability
    np.testing.assert_allclose(predictor.predict(tmp_path / "a.png", case="x").probability, expected, atol=1e-5)


def test_the_mask_has_the_shape_of_its_file(volume_model: Path, tmp_path: Path):
    predict(volume_model, [volume(tmp_path / "a.nii.gz", shape=(*SHAPE, 1))], tmp_path / "out", votes=1)
    assert nib.load(tmp_path / "out" / "a_mask.nii.gz").shape == (*SHAPE, 1)


def test_a_spacing_in_the_wrong_unit_is_refused(volume_model: Path, tmp_path: Path):
    path = volume(tmp_path / "a.nii.gz", affine=np.diag([80.0, 80.0, 80.0, 1.0]))
    with pytest.raises(UserError, match="millimetres"):
        load(volume_model).predict(path)


@pytest.mark.parametrize("kind", ["complex", "colour"])
def test_voxels_that_are_no_single_numbers_are_refused(kind: str, volume_model: Path, tmp_path: Path):
    dtype = np.dtype(np.complex64) if kind == "complex" else np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), dtype), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="one number a voxel"):
        load(volume_model).predict(tmp_path / "a.nii.gz")


# Evaluation


def test_scores_are_those_of_the_masks_that_predict_writes(trained: Path, phantoms: Path, tmp_path: Path):
    evaluation = evaluate(trained, phantoms, votes=3, seed=5, out=tmp_path / "scores")
    folder = open_folder(phantoms)
    predict(trained, [case.image for case in folder.cases[0::4]], tmp_path / "masks", votes=3, seed=5)
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
    predictor = load(trained)
    predictor.recipe = replace(predictor.recipe, data=replace(predictor.recipe.data, mirror_votes=True))
    by_recipe, without = (evaluate(one, phantoms, votes=4).summary()["mean"]["dice"] for one in (predictor, trained))
    assert asked["mean"]["dice"] == by_recipe != without
    # Without chance there is one vote for each of the four images, and none to see where none is possible.
    picture = next((phantoms / "images").iterdir())
    assert load(trained, timesteps=0, mirror=True).predict(picture).count == 4
    assert main(["predict", str(trained), str(picture), "--out", str(tmp_path / "out"), "--votes", "2", "--mirror"]) == 0
    header = read_header(trained / "model.safetensors")
    recipe = replace(header.recipe, data=replace(header.recipe.data, flips=()))
    save_model(tmp_path / "still.safetensors", load_file(trained / "model.safetensors"), replace(header, recipe=recipe))
    with pytest.raises(UserError, match="no axis along which a mirror image is possible"):
        load(tmp_path / "still.safetensors", mirror=True)


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
    assert evaluate(trained, phantoms, split="train", votes=1).summary()["cases"] == 8


def test_other_images_of_the_same_names_are_no_training_cases(trained: Path, tmp_path: Path):
    """And they are not the model's own test cases either."""
    write_phantoms(tmp_path / "others", 16, seed=99, size=32, raters=3)
    assert evaluate(trained, tmp_path / "others", split="all", votes=1).summary()["cases"] == 16
    with pytest.raises(UserError, match="--split all for other data"):
        evaluate(trained, tmp_path / "others", votes=1)


def test_scores_of_several_protocols_from_one_pass(trained: Path, phantoms: Path, tmp_path: Path):
    names = ["own-grid", "cxr-256", "own-grid"]
    summary = evaluate(trained, phantoms, votes=1, scorings=names, out=tmp_path).summary()
    assert summary["cases"] == 4
    assert summary["protocol"]["scoring"] == "own-grid"
    alone = evaluate(trained, phantoms, votes=1, scorings=["cxr-256"]).summary()
    assert summary["also"]["cxr-256"]["mean"]["dice"] == pytest.approx(alone["mean"]["dice"])
    assert summary["mean"]["dice"] == pytest.approx(alone["mean"]["dice"], abs=0.15)
    assert alone["mean"]["hd95"] is None  # a stretched grid has no unit
    with pytest.raises(UserError, match="no scoring protocol 'mine'"):
        evaluate(trained, phantoms, scorings=["mine"])


def test_votes_on_disk_are_classes(volume_model: Path, tmp_path: Path):
    predict(volume_model, [volume(tmp_path / "a.nii.gz")], tmp_path / "out", votes=3, save=("votes",))
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


# The command line


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cdal", *map(str, words)], capture_output=True, text=True, check=False)


def test_train_predict_and_info_by_command(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fields = ["--segmenter.channels=[8,12,16]", "--segmenter.denoiser_channels=16", "--training.batch=2"]
    command = ["train", "phantoms", "--data", str(phantoms), "--out", str(tmp_path / "run"), "--steps", "3", *fields]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "model.safetensors")
    assert main(command) == 0  # resumes, and finds nothing left to do
    assert main([*command, "--seed", "4"]) == 2
    assert "training.seed is 0 there and 4 now" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["training"]["batch"] == 2


def test_dry_run_shows_the_recipe_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["train", "hippocampus", "--fold", "2", "--segmenter", "cdal-paper", "--training.batch", "9", "--dry-run"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "fold: 2" in shown
    assert "attention: raw" in shown
    assert "batch: 9" in shown
    assert not (tmp_path / "run").exists()


def test_options_may_stand_in_a_file(trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "options.yaml").write_text(f"model: {trained}\ndata: {phantoms}\nvotes: 2\njson: true\n")
    assert main(["evaluate", "--config", str(tmp_path / "options.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["votes"] == 2


@pytest.mark.parametrize("verb", ["demo", "train", "predict", "evaluate", "export", "bench", "info"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert "usage: cdal" in capsys.readouterr().out


def test_importing_the_package_imports_no_torch():
    code = "import sys, cdal; cdal.load; assert 'torch' not in sys.modules; cdal.train; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_the_package_are_what_they_say_in_any_order():
    code = "import cdal.training, cdal.prediction, cdal;"
    code += "assert all(callable(getattr(cdal, n)) for n in ('train', 'predict', 'evaluate', 'load'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "hipocampus", "--data", "x", "--out", "y"], "Did you mean hippocampus"),
        (["train", "phantoms", "--data", "nowhere", "--out", "y"], "no such folder"),
        (["train", "phantoms", "--data", "x", "--out", "y", "--training.stepz", "3"], "Did you mean training.steps"),
        (["train", "phantoms", "--data", "x", "--out", "y", "--segmenter", "resnet"], "no segmenter 'resnet'"),
        (["train", "phantoms", "--data", "x", "--out", "y", "--fold", "9"], "data.fold must be 0 to 3"),
        (["train", "phantoms"], "--data and --out are needed"),
        (["predict", "unheard-of", "x.png", "--out", "y"], "no model unheard-of"),
        (["evaluate", "unheard-of", "--data", "x"], "no model unheard-of"),
        (["info", "unheard-of"], "no model unheard-of"),
        (["train", "phantoms", "--device", "tpu", "--data", "x", "--out", "y"], "no device 'tpu'"),
        (["predict", "m", "x", "--out", "y", "--votes", "0"], "votes must be 1 or more"),
        (["predict", "m", "x", "--out", "y", "--training.steps", "3"], "can be given to train, crossval, experiment only"),
    ],
)
def test_wrong_words_exit_with_2_and_say_why(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "y" / "model.safetensors").exists()


def test_words_that_no_parser_knows_exit_with_2(tmp_path: Path):
    for words in (["nothing"], ["predict"], ["evaluate", "m", "--votes", "many"]):
        done = run(*words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_broken_file_is_reported_and_the_others_are_done(volume_model: Path, tmp_path: Path):
    scans = tmp_path / "scans"
    volume(scans / "good.nii.gz")
    whole = volume(scans / "short.nii.gz", shape=(20, 20, 20)).read_bytes()
    (scans / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    (scans / "text.nii.gz").write_text("hello")
    (scans / "zipped.nii.gz").write_bytes(gzip.compress(b"hello"))
    volume(scans / "series.nii.gz", shape=(8, 8, 8, 3))
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), np.nan, np.float32), np.eye(4)), scans / "nan.nii.gz")
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 5.0, np.float32), np.eye(4)), scans / "flat.nii.gz")
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(scans / "picture.png")
    done = run("predict", volume_model, scans, tmp_path / "missing.nii.gz", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    for name in ("short", "text", "zipped", "series", "nan", "flat", "picture", "missing"):
        assert any(name in line and len(line) > 60 for line in done.stderr.splitlines())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"good_mask.nii.gz", "predictions.json"}
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["failed"]) == 8


def test_nothing_done_at_all_is_exit_code_2(volume_model: Path, tmp_path: Path):
    (tmp_path / "text.nii.gz").write_text("hello")
    assert main(["predict", str(volume_model), str(tmp_path / "text.nii.gz"), "--out", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_for_results_that_cannot_be_made_is_refused_before_the_work(
    out: str, volume_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("here first")
    assert main(["predict", str(volume_model), str(volume(tmp_path / "a.nii.gz")), "--out", str(tmp_path / out)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "here first"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(volume_model: Path, tmp_path: Path):
    (tmp_path / "out").mkdir(mode=0o500)
    assert main(["predict", str(volume_model), str(volume(tmp_path / "a.nii.gz")), "--out", str(tmp_path / "out")]) == 2


def test_a_full_disk_leaves_nothing_half_written(volume_model: Path, tmp_path: Path):
    """A limit on the size of files stands for the end of the disk: the mask and the summary fit, the votes do not."""
    source = volume(tmp_path / "a.nii.gz", shape=(30, 30, 30))
    code = "import sys; from cdal.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["predict", str(volume_model), str(source), "--out", str(tmp_path / "out"), "--save", "mask", "probability"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} <= {"a_mask.nii.gz", "predictions.json"}


def test_two_inputs_of_one_name_are_refused(volume_model: Path, tmp_path: Path):
    paths = [str(volume(tmp_path / folder / "a.nii.gz")) for folder in ("x", "y")]
    assert main(["predict", str(volume_model), *paths, "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_model_of_one_channel_refuses_three(trained: Path, tmp_path: Path):
    colours = np.random.default_rng(0).integers(256, size=(32, 32, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / "colour.png")
    with pytest.raises(UserError, match=r"expected 1 channel.* it has 3"):
        load(trained).predict(tmp_path / "colour.png")


def test_a_plain_network_has_no_timesteps(tmp_path: Path):
    recipe = Recipe("x", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(8, 12, 16)))
    segmenter = build_segmenter(recipe, 1, 2)
    header = ModelHeader(recipe, ("background", "a"), 1)
    save_model(tmp_path / "m.safetensors", segmenter.network.state_dict(), header)
    with pytest.raises(UserError, match="timesteps belong to diffusion"):
        load(tmp_path / "m.safetensors", timesteps=2)
