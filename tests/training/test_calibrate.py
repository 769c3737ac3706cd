"""Calibrating a trained model: what is fitted, and on which cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles
from cdal.datasets.phantoms import write_phantoms
from cdal.datasets.reading import read_case
from cdal.evaluation.agreement import majority
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.fit_quality import fit_quality
from cdal.evaluation.metrics import count
from cdal.imaging.image import Image, image_digest
from cdal.inference.load import load
from cdal.inference.quality import Quality
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.segmenters.ensemble import ensemble
from cdal.segmenters.model_header import read_header
from cdal.training import calibrate as module
from cdal.training.calibrate import known_of, recalibrate, some_of
from cdal.training.train import train
from helpers.recipes import small_recipe


def test_a_training_ends_with_the_quality_of_its_validation_cases(trained: Path, phantoms: Path):
    """Found again from predictions."""
    header = read_header(trained / "model.safetensors")
    quality = Quality.of(header.quality)
    assert quality.cases == len(header.data["validation"])
    assert header.data["calibration"] == {
        name: header.data["images"][name] for name in header.data["validation"]
    }
    assert header.training_images["count"] == quality.cases + len(header.data["train"])
    predictor, folder = load(trained), open_folder(phantoms)
    known = []
    for case in folder.cases:
        if case.name in header.data["validation"]:
            image, labels = read_case(case, folder)
            truth = majority(np.stack([label.array[0] for label in labels]), 2)
            prediction = predictor.predict(image, case.name)
            dice = count(prediction.mask == 1, truth == 1).dice
            expected = prediction.signs.expected_dice(1)
            made = known_of(prediction.mask == 1, truth == 1, expected, image)
            assert made.dice == dice
            known.append({"lesion": made})
    again = fit_quality(known, ("lesion",), quality.sampling)
    assert again == quality


def test_weights_stay_and_a_given_temperature_too(trained: Path, phantoms: Path, tmp_path: Path):
    out = tmp_path / "m.safetensors"
    recalibrate(trained, phantoms, out, Sampling(temperature=2.0, votes=3))
    header, before = read_header(out), load_file(trained / "model.safetensors")
    assert header.temperature == 2.0 and header.quality["sampling"]["votes"] == 3
    assert all(weight.equal(before[name]) for name, weight in load_file(out).items())
    assert load(out, Sampling(votes=3)).judge.missing == ""


def test_other_cases_widen_what_the_training_images_were(trained: Path, tmp_path: Path):
    other = write_phantoms(tmp_path / "other", 40, seed=9, size=32, raters=1)
    out = tmp_path / "m.safetensors"
    assert (
        main(["calibrate", str(trained), "--data", str(other), "--split", "all", "--out", str(out)])
        == 0
    )
    header = read_header(out)
    assert header.quality["cases"] == 40
    assert Quality.of(header.quality).classes["lesion"].dice.margin() is not None
    few = write_phantoms(tmp_path / "few", 3, seed=10, size=32, raters=1)
    with pytest.raises(UserError, match=r"on 40 cases, .* 3 cases give none: give 9 or more"):
        recalibrate(out, few, tmp_path / "worse.safetensors", split="all")
    assert (
        header.training_images["count"]
        == read_header(trained / "model.safetensors").training_images["count"]
    )


def test_the_checksum_of_a_case_is_that_of_the_image_that_was_segmented(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is not read once more for it; one more reading describes the image."""
    other = write_phantoms(tmp_path / "other", 3, seed=9, size=32, raters=1)
    model = read_header(trained / "model.safetensors")
    read = module.read_image_of
    seen: list[str] = []

    def counted(case: CaseFiles) -> Image:
        seen.append(case.name)
        return read(case)

    monkeypatch.setattr(module, "read_image_of", counted)
    out, folder = tmp_path / "m.safetensors", open_folder(other)
    path = trained / "model.safetensors"
    module.calibrate(path, out, folder, folder.cases, (), Sampling(votes=2, temperature=1.0))
    assert sorted(seen) == [case.name for case in folder.cases]
    digests = {case.name: image_digest(read(case)) for case in folder.cases}
    assert read_header(out).data["calibration"] == digests != model.data["calibration"]


def test_cases_of_the_training_are_refused(trained: Path, phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match="were seen in training"):
        recalibrate(trained, phantoms, tmp_path / "m.safetensors", split="all")
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        recalibrate(trained, phantoms, tmp_path / "m.onnx")


def test_an_evaluation_leaves_out_the_cases_of_the_calibration(trained: Path, phantoms: Path):
    assert not evaluate(trained, phantoms, split="validation").judged
    judged = evaluate(trained, phantoms).judged
    test = read_header(trained / "model.safetensors").data["test"]
    assert [row["case"] for row in judged] == test


def test_some_are_evenly_spaced():
    assert some_of(range(10), 4) == [0, 2, 5, 7]
    assert some_of([1, 2], 3) == [1, 2] and some_of([1, 2], None) == [1, 2]


def test_cases_of_the_calibration_are_known_by_their_pixels_not_their_names(
    trained: Path, tmp_path: Path
):
    """Other images of the same names are judged."""
    first = write_phantoms(tmp_path / "first", 10, seed=9, size=32, raters=1)
    other = write_phantoms(tmp_path / "other", 10, seed=10, size=32, raters=1)
    out = tmp_path / "m.safetensors"
    recalibrate(trained, first, out, split="all")
    assert not evaluate(out, first, split="all").judged
    assert len(evaluate(out, other, split="all").judged) == 10


def test_an_ensemble_is_calibrated_like_a_model(trained: Path, tmp_path: Path):
    cases = write_phantoms(tmp_path / "cases", 20, seed=9, size=32, raters=1)
    together, out = tmp_path / "e.safetensors", tmp_path / "c.safetensors"
    ensemble([trained, trained], together)
    assert load(together).judge.missing
    recalibrate(together, cases, out, Sampling(votes=4), split="all")
    header = read_header(out)
    assert header.quality["cases"] == 20 and len(header.members) == 2
    assert load(out, Sampling(votes=4)).judge.missing == ""
    before, after = load_file(together), load_file(out)
    assert before.keys() == after.keys() and all(after[k].equal(before[k]) for k in before)


def test_models_that_learned_several_annotators_vote_together(phantoms: Path, tmp_path: Path):
    recipe = small_recipe(annotators=3, steps=2, calibrate=False)
    model = train(recipe, phantoms, tmp_path / "run", "cpu")
    assert len(load([model, model], Sampling(votes=2)).header.members) == 2


def test_cases_of_the_training_are_known_under_another_name(
    trained: Path, phantoms: Path, tmp_path: Path
):
    names = read_header(trained / "model.safetensors").data["train"][:3]
    for i, name in enumerate(names):
        for source in phantoms.rglob(f"{name}*.png"):
            target = tmp_path / source.relative_to(phantoms).with_name(
                source.name.replace(name, f"renamed{i}")
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    if (phantoms / "dataset.json").is_file():
        (tmp_path / "dataset.json").write_bytes((phantoms / "dataset.json").read_bytes())
    with pytest.raises(UserError, match=r"3 of the 3 cases were seen .* Seen: renamed0, renamed1"):
        evaluate(trained, tmp_path, split="all")
