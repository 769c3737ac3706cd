"""The options of sampling, from the command line to the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from safetensors.torch import load_file

from cdal.cli import main
from cdal.evaluation.evaluate import evaluate
from cdal.imaging.grid import resized
from cdal.inference.decision import decide, spread
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader, read_header
from helpers.files import volume


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


def test_votes_differ_and_the_twin_has_one_opinion(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "a.nii.gz", affine=np.eye(4))
    prediction = load(volume_model, Sampling(votes=6)).predict(source, keep_votes=True)
    np.testing.assert_allclose(prediction.uncertainty, spread(prediction.votes), atol=1e-3)
    assert prediction.uncertainty.mean() > 0.01
    twin = load(volume_model, Sampling(votes=6, timesteps=0))
    assert twin.predict(source, keep_votes=True).votes.shape[0] == 1
    twin = load(volume_model, Sampling(votes=6, timesteps=0, mirror=True))
    assert twin.predict(source, keep_votes=True).votes.shape[0] == 2  # one for each mirror image
    with pytest.raises(UserError, match="divisor"):
        load(volume_model, Sampling(timesteps=3))


def test_a_plain_network_has_no_timesteps(tmp_path: Path):
    recipe = Recipe("x", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(8, 12, 16)))
    segmenter = build_segmenter(recipe, 1, 2)
    header = ModelHeader(recipe, ("background", "a"), 1)
    save_model(tmp_path / "m.safetensors", segmenter.network.state_dict(), header)
    with pytest.raises(UserError, match="timesteps belong to diffusion"):
        load(tmp_path / "m.safetensors", Sampling(timesteps=2))
