"""The options of sampling, from the command line to the result."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
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
from cdal.recipes import with_segmenter
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe, override
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader, read_header
from helpers.files import volume
from helpers.recipes import small_recipe

VALUES = {
    "votes": 3,
    "timesteps": 0,
    "mirror": False,
    "components": 2,
    "decision": "expected-dice",
    "temperature": 1.5,
    "seed": 7,
    "review_below": 0.8,
    "strict": True,
    "skip": False,
}
"""A value of each field that is not its default."""


class StopError(UserError):
    """Instead of loading a model."""


def asked_for(verb: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> Sampling:
    """What a verb of the command line asks of `load`."""
    seen: list[Sampling] = []

    def stop(model: str, sampling: Sampling, device: str) -> None:
        seen.append(sampling)
        raise StopError(model)

    monkeypatch.setattr("cdal.inference.load.load", stop)
    rest = {"predict": ["predict", "m", "x.png"], "evaluate": ["evaluate", "m", "--data", "x"]}[
        verb
    ]
    assert main([*rest, *words]) == 2
    return seen[0]


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_every_field_is_an_option_of_the_command_line(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """By its name, with its help, and with the value that `words` gives it."""
    assert set(VALUES) == {field.name for field in fields(Sampling)}
    assert asked_for(verb, [], monkeypatch) == Sampling()
    for name, value in VALUES.items():
        sampling = Sampling(**{name: value})
        assert sampling != Sampling()
        assert asked_for(verb, sampling.words(), monkeypatch) == sampling
    everything = Sampling(**VALUES)
    assert asked_for(verb, everything.words(), monkeypatch) == everything
    assert asked_for(verb, ["--mirror"], monkeypatch) == Sampling(mirror=True)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields(Sampling):
        assert f"--{field.name.replace('_', '-')}" in shown
        assert field.metadata["help"] in shown


def test_only_what_differs_from_the_defaults_is_said():
    assert Sampling().words() == []
    assert Sampling(votes=3, mirror=True).words() == ["--votes", "3", "--mirror"]
    assert Sampling(**VALUES).words() == [
        *(
            "--votes",
            "3",
            "--timesteps",
            "0",
            "--no-mirror",
            "--components",
            "2",
            "--decision",
            "expected-dice",
            "--temperature",
            "1.5",
            "--seed",
            "7",
            "--review-below",
            "0.8",
            "--strict",
            "--no-skip",
        )
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"votes": 0}, "votes must be 1 or more; it is 0"),
        ({"temperature": 0.0}, "temperature must be more than 0; it is 0"),
        ({"temperature": math.nan}, "temperature must be more than 0; it is nan"),
        ({"temperature": 1e-300}, "temperature must be 0.001 to 1000; it is 1e-300"),
        ({"temperature": math.inf}, "temperature must be 0.001 to 1000; it is inf"),
    ],
)
def test_numbers_that_are_too_low_or_too_high_are_refused(values: dict[str, float], message: str):
    with pytest.raises(UserError, match=message):
        Sampling(**values)


def test_a_recipe_takes_what_is_asked_for_and_keeps_the_rest():
    recipe, model = small_recipe(), Path("m.safetensors")
    assert Sampling().of(recipe, model) == recipe
    assert (
        Sampling(votes=3, temperature=2.0, seed=5).of(recipe, model) == recipe
    )  # these are not the recipe's
    for sampling, fields_ in (
        (Sampling(timesteps=1), {"segmenter.sampling_timesteps": 1}),
        (Sampling(timesteps=0), {"segmenter.sampling_timesteps": 0}),
        (Sampling(components=1), {"data.components": 1}),
        (Sampling(mirror=True), {"data.mirror_votes": True}),
        (Sampling(mirror=False), {}),
        (
            Sampling(timesteps=4, components=2),
            {"segmenter.sampling_timesteps": 4, "data.components": 2},
        ),
    ):
        assert sampling.of(recipe, model) == override(recipe, fields_)
    seeing = override(recipe, {"data.mirror_votes": True})
    assert Sampling(mirror=False).of(seeing, model) == recipe


def test_what_a_recipe_cannot_do_is_refused():
    model = Path("m.safetensors")
    plain = with_segmenter(small_recipe(), "cdal-unet")
    for sampling, recipe, message in (
        (Sampling(timesteps=3), small_recipe(), "timesteps must be 0, 1, 2, 4, as .* it is 3"),
        (Sampling(timesteps=0), plain, r"m\.safetensors: timesteps belong to diffusion"),
        (
            Sampling(mirror=True),
            override(small_recipe(), {"data.flips": ()}),
            r"m\.safetensors: .*no axis",
        ),
    ):
        with pytest.raises(UserError, match=message):
            sampling.of(recipe, model)


@pytest.mark.parametrize(
    ("name", "value"), [("votes", 0), ("timesteps", -1), ("components", -1), ("seed", -1)]
)
def test_numbers_that_are_too_low_are_refused_by_their_names(name: str, value: int):
    with pytest.raises(UserError, match=f"{name} must be {value + 1} or more; it is {value}"):
        Sampling(**{name: value})


def test_mirror_images_are_seen_where_they_are_asked_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert (
        main(
            [
                "evaluate",
                str(trained),
                "--data",
                str(phantoms),
                "--votes",
                "4",
                "--mirror",
                "--json",
            ]
        )
        == 0
    )
    asked = json.loads(capsys.readouterr().out)
    assert asked["protocol"]["flips"] == [0, 1]
    by_recipe, without = (
        evaluate(trained, phantoms, Sampling(votes=4, mirror=mirror)).summary()["mean"]["dice"]
        for mirror in (True, False)
    )
    assert asked["mean"]["dice"] == by_recipe != without
    # Without chance there is one vote for each of the four images, and none to see where none is
    # possible.
    picture = next((phantoms / "images").iterdir())
    assert load(trained, Sampling(timesteps=0, mirror=True)).predict(picture).count == 4
    # A recipe whose votes see them is asked not to.
    header = read_header(trained / "model.safetensors")
    seeing = replace(
        header, recipe=replace(header.recipe, data=replace(header.recipe.data, mirror_votes=True))
    )
    save_model(tmp_path / "seeing.safetensors", load_file(trained / "model.safetensors"), seeing)
    for words, flips, dice in (([], [0, 1], by_recipe), (["--no-mirror"], [], without)):
        assert (
            main(
                [
                    "evaluate",
                    str(tmp_path / "seeing.safetensors"),
                    "--data",
                    str(phantoms),
                    "--votes",
                    "4",
                    *words,
                    "--json",
                ]
            )
            == 0
        )
        summary = json.loads(capsys.readouterr().out)
        assert (summary["protocol"]["flips"], summary["mean"]["dice"]) == (flips, dice)
    assert (
        main(
            [
                "predict",
                str(trained),
                str(picture),
                "--out",
                str(tmp_path / "out"),
                "--votes",
                "2",
                "--mirror",
            ]
        )
        == 0
    )
    recipe = replace(header.recipe, data=replace(header.recipe.data, flips=()))
    save_model(
        tmp_path / "still.safetensors",
        load_file(trained / "model.safetensors"),
        replace(header, recipe=recipe),
    )
    with pytest.raises(UserError, match="no axis along which a mirror image is possible"):
        load(tmp_path / "still.safetensors", Sampling(mirror=True))


def test_the_largest_components_are_kept_where_they_are_asked_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture = next((phantoms / "images").iterdir())
    plain, kept = (
        load(trained, Sampling(votes=1)).predict(picture),
        load(trained, Sampling(votes=1, components=1)).predict(picture),
    )
    np.testing.assert_array_equal(plain.probability, kept.probability)
    np.testing.assert_array_equal(kept.mask, decide(plain.probability, 1))
    np.testing.assert_array_equal(
        kept.mask_at((20, 20)), decide(resized(plain.on_grid, (20, 20)), 1)
    )
    assert (
        main(
            [
                "predict",
                str(trained),
                str(picture),
                "--out",
                str(tmp_path),
                "--votes",
                "1",
                "--components",
                "1",
            ]
        )
        == 0
    )
    written = np.asarray(Pillow.open(next(tmp_path.glob("*_mask.*"))))
    np.testing.assert_array_equal(written > 0, kept.mask > 0)
    assert (
        json.loads((tmp_path / "predictions.json").read_text())["predictions"][0]["components"] == 1
    )
    assert (
        main(
            [
                "evaluate",
                str(trained),
                "--data",
                str(phantoms),
                "--votes",
                "1",
                "--components",
                "1",
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["protocol"]["components"] == 1
    assert (
        main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--components", "-1"])
        == 2
    )
    assert "components must be 0 or more" in capsys.readouterr().err


def test_the_temperature_is_the_models_or_the_one_asked_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = read_header(trained / "model.safetensors").temperature
    picture = next((phantoms / "images").iterdir())
    assert (
        main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--votes", "2"]) == 0
    )
    assert (
        json.loads((tmp_path / "predictions.json").read_text())["predictions"][0]["temperature"]
        == own
    )
    found = {}
    for temperature in ("1", "3"):
        words = [
            "evaluate",
            str(trained),
            "--data",
            str(phantoms),
            "--votes",
            "2",
            "--temperature",
            temperature,
            "--json",
        ]
        capsys.readouterr()
        assert main(words) == 0
        found[temperature] = json.loads(capsys.readouterr().out)
    assert found["3"]["protocol"]["temperature"] == 3
    assert found["1"]["mean"] == found["3"]["mean"]
    assert found["1"]["uncertainty"]["nll"] != found["3"]["uncertainty"]["nll"]
    assert (
        main(["predict", str(trained), str(picture), "--out", str(tmp_path), "--temperature", "0"])
        == 2
    )
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
    with pytest.raises(UserError, match="timesteps must be 0, 1, 2, 4"):
        load(volume_model, Sampling(timesteps=3))


def test_a_plain_network_has_no_timesteps(tmp_path: Path):
    recipe = Recipe(
        "x", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(8, 12, 16))
    )
    segmenter = build_segmenter(recipe, 1, 2)
    header = ModelHeader(recipe, ("background", "a"), 1)
    save_model(tmp_path / "m.safetensors", segmenter.network.state_dict(), header)
    with pytest.raises(UserError, match="timesteps belong to diffusion"):
        load(tmp_path / "m.safetensors", Sampling(timesteps=2))
