"""Validation: which weights are kept, the temperature, and trainings without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.datasets.phantoms import write_phantoms
from cdal.datasets.reading import read_case
from cdal.evaluation.agreement import distances, generalised_energy_distance
from cdal.evaluation.calibration import fit_temperature
from cdal.evaluation.evaluate import evaluate
from cdal.inference.decision import temper
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.segmenters.model_file import load_model
from cdal.segmenters.model_header import read_header
from cdal.training.log import read_log
from cdal.training.train import train
from cdal.training.validation import energy_score
from helpers.recipes import small_recipe


def test_the_model_is_the_best_on_validation_and_says_so(trained: Path, phantoms: Path):
    header = read_header(trained / "model.safetensors")
    validations = {
        row["step"]: row["validation"] for row in read_log(trained) if "validation" in row
    }
    assert header.step == max(validations, key=validations.get)
    assert header.scores["lesion"] == pytest.approx(validations[header.step])
    names = [case.name for case in open_folder(phantoms).cases]
    assert header.data["validation"] == names[1::4]
    assert sorted(header.data["train"] + header.data["validation"]) == sorted(
        set(names) - set(names[0::4])
    )
    assert header.classes == ("background", "lesion")


def test_with_several_annotators_the_lowest_energy_score_is_the_best(tmp_path: Path):
    data = write_phantoms(tmp_path / "data", 16, seed=1, size=32, raters=3)
    model = train(small_recipe(calibrate=False, steps=20, validate_every=5), data, tmp_path / "run")
    scores = {
        row["step"]: row["energy_score/validation"]
        for row in read_log(tmp_path / "run")
        if "validation" in row
    }
    assert len(scores) == 4
    assert read_header(model).step == min(scores, key=scores.get)


def test_the_energy_score_is_half_the_energy_distance_and_needs_no_many_votes():
    """Up to what the annotators differ; few votes give the mean of what many give."""
    rng = np.random.default_rng(0)
    votes, raters = rng.integers(0, 3, (40, 6, 6)), rng.integers(0, 3, (4, 6, 6))
    apart = distances(raters, raters, 3).mean()
    half = (generalised_energy_distance(votes, raters, 3) + apart) / 2
    ties = distances(votes, votes, 3).sum() / (40 * 39) - distances(votes, votes, 3).mean()
    assert energy_score(votes, raters, 3) == pytest.approx(half - ties / 2)
    pairs = [energy_score(votes[[i, j]], raters, 3) for i in range(40) for j in range(i)]
    assert np.mean(pairs) == pytest.approx(energy_score(votes, raters, 3))
    assert energy_score(votes[:1], raters, 3) == pytest.approx(
        distances(votes[:1], raters, 3).mean()
    )


def test_the_temperature_is_that_of_the_kept_weights_on_the_validation_cases(
    trained: Path, phantoms: Path, tmp_path: Path
):
    """Found again from predictions as they come; without it a model is the same to
    the last weight.
    """
    model = trained / "model.safetensors"
    header, folder, plain = (
        read_header(model),
        open_folder(phantoms),
        load(trained, Sampling(temperature=1)),
    )
    cases = [
        read_case(case, folder) for case in folder.cases if case.name in header.data["validation"]
    ]
    found = [
        (
            plain.predict(image, case=name).probability,
            np.stack([label.array[0] for label in labels]),
        )
        for name, (image, labels) in zip(header.data["validation"], cases, strict=True)
    ]
    assert header.temperature == pytest.approx(fit_temperature(found), abs=2e-3)
    image = cases[0][0]
    own = load(trained).predict(image)
    np.testing.assert_allclose(
        own.probability, temper(plain.predict(image).probability, header.temperature), atol=1e-6
    )

    without = train(small_recipe(calibrate=False), phantoms, tmp_path / "run", "cpu")
    assert read_header(without).temperature is None
    assert load(without).temperature == 1
    weights, same = load_file(model), load_file(without)
    assert all(weights[name].equal(same[name]) for name in weights)


def test_without_validation_all_but_the_test_cases_train_and_the_last_weights_are_kept(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = small_recipe(steps=3, validate_every=1)
    recipe = replace(recipe, data=replace(recipe.data, validation=False))
    out = tmp_path / "run"
    header = read_header(train(recipe, phantoms, out, "cpu"))
    names = [case.name for case in open_folder(phantoms).cases]
    assert (header.step, header.scores, header.data["validation"], header.temperature) == (
        3,
        {},
        [],
        None,
    )
    assert header.in_space is False  # known without a calibration
    assert sorted(header.data["train"]) == sorted(set(names) - set(names[0::4]))
    assert not any("validation" in row for row in read_log(out))
    assert evaluate(out, phantoms).summary()["cases"] == len(names[0::4])
    with pytest.raises(UserError, match="trained on its validation cases too"):
        evaluate(out, phantoms, split="validation")
    assert main(["info", str(out)]) == 0
    assert "validation: false" in capsys.readouterr().out


@pytest.mark.parametrize("validation", [True, False])
def test_the_test_cases_can_be_watched_and_choose_nothing(validation: bool, tmp_path: Path):
    """The log's Dice is that of `evaluate`; the weights are those of a training
    that does not look.
    """
    data = write_phantoms(tmp_path / "data", 16, seed=1, size=32, raters=1)
    recipe = small_recipe(calibrate=False)
    recipe = replace(recipe, data=replace(recipe.data, validation=validation))
    watching = replace(recipe, training=replace(recipe.training, watch_test=True))
    plain, watched = (
        train(one, data, tmp_path / name, "cpu")
        for name, one in (("plain", recipe), ("watched", watching))
    )
    weights = [load_model(path)[0].state_dict() for path in (plain, watched)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not any("test" in row for row in read_log(tmp_path / "plain"))
    curve = {row["step"]: row["test"] for row in read_log(tmp_path / "watched") if "test" in row}
    assert list(curve) == [10, 20]
    _, header = load_model(watched)
    scored = evaluate(watched, data, Sampling(votes=recipe.training.validation_votes)).summary()
    assert curve[header.step] == pytest.approx(scored["mean"]["dice"], abs=1e-6)
