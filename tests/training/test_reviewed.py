"""Training a model further on reviewed cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.phantoms import write_phantoms
from cdal.datasets.reviews import keep_held_out, read_reviews
from cdal.evaluation.before_after import BEFORE_AFTER
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.metrics import count
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import Recipe, override
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import read_header
from cdal.training.log import read_log
from cdal.training.reviewed import (
    FEWEST,
    FEWEST_CORRECTED,
    Corrections,
    hold_out,
    read_corrections,
    train_on_reviews,
)
from cdal.training.start import find_start
from helpers.events import lines_into
from helpers.recipes import small_recipe
from helpers.reviewed import all_fixed, predicted, review


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms that no model was trained on."""
    folder = tmp_path_factory.mktemp("data") / "new"
    return write_phantoms(folder, 12, seed=7, size=32, raters=1)


@pytest.fixture(scope="module")
def segmented(trained: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their results, not reviewed."""
    return predicted(trained, images, tmp_path_factory.mktemp("results") / "results")


@pytest.fixture
def results(segmented: Path, tmp_path: Path) -> Path:
    """A copy of the results to review."""
    return shutil.copytree(segmented, tmp_path / "results")


def short(corrections: Corrections, steps: int = 4) -> Recipe:
    """The derived recipe with a few steps."""
    fields = {"training.steps": steps, "training.validate_every": 2, "training.batch": 2}
    return override(corrections.derived.recipe, fields)


some_groups = st.lists(st.integers(0, 30), min_size=1, max_size=40).map(
    lambda patients: {f"c{i}": f"p{patient}" for i, patient in enumerate(patients)}
)


@given(some_groups, st.data())
def test_who_is_held_out_stays_so_when_cases_are_added(groups: dict[str, str], data: st.DataObject):
    """A quarter is, but never more than half; patients whom the model has seen are not."""
    seen, corrected = (data.draw(st.sets(st.sampled_from(sorted(groups)))) for _ in range(2))
    first = hold_out(groups, corrected, (), seen)
    assert not first & {groups[name] for name in seen}
    for names in (groups, corrected):
        assert 2 * sum(groups[name] in first for name in names) <= len(names)
    if len(groups) < FEWEST or len(corrected) < FEWEST_CORRECTED:
        assert not first
    more = groups | {f"d{i}": f"q{i}" for i in range(data.draw(st.integers(0, 20)))}
    fixed = corrected | (set(more) - set(groups))
    second = hold_out(more, fixed, first, seen)
    assert first <= second
    apart = len(set(more.values())) == len(more)
    if len(more) >= FEWEST and len(fixed) >= FEWEST_CORRECTED and not seen and apart:
        assert sum(more[name] in second for name in fixed) >= 2


@pytest.mark.parametrize(
    ("cases", "corrected", "held"),
    [(7, 7, 0), (8, 8, 2), (12, 12, 3), (12, 4, 2), (12, 3, 0), (40, 40, 10)],
)
def test_a_quarter_of_enough_corrected_cases_is_held_out(cases: int, corrected: int, held: int):
    groups = {f"c{i}": f"c{i}" for i in range(cases)}
    chosen = hold_out(groups, [f"c{i}" for i in range(corrected)], ())
    assert len(chosen) == held
    assert chosen <= {f"c{i}" for i in range(corrected)}


def test_a_model_learns_from_corrections_and_is_compared_on_held_out_cases(
    trained: Path, images: Path, results: Path, tmp_path: Path
):
    review(results, images, {"phantom_0000": "accept", "phantom_0001": "reject"})
    all_fixed(results, images, range(2, 12))
    start, lines = find_start(trained), list[str]()
    corrections = read_corrections(results, start)
    out = tmp_path / "run"
    model, compared = train_on_reviews(
        short(corrections), corrections, out, start, "cpu", lines_into(lines)
    )
    assert compared is not None
    header = read_header(model)
    held = header.data["test"]
    assert len(held) == compared.cases == 2
    assert "phantom_0000" not in held
    assert sorted([*held, *header.data["train"]]) == [
        f"phantom_{i:04d}" for i in range(12) if i != 1
    ]
    assert header.data["validation"] == []
    assert set(held) <= set(read_reviews(results).held_out)
    assert any(
        "1 accepted, 10 corrected and 1 rejected cases: 9 to train on, 2" in x for x in lines
    )
    # The scores are those of the files, predicted anew and counted here.
    for path, scores in ((trained, compared.before), (model, compared.after)):
        predictor, dice = load(path), []
        for name in held:
            mask = predictor.predict(images / "images" / f"{name}.png", name).mask
            truth = np.asarray(Pillow.open(images / "truth" / f"{name}.png"))
            dice.append(count(mask == 1, truth == 1).dice)
        assert scores == {"lesion": pytest.approx(np.mean(dice))}
    assert compared.better == (compared.after["lesion"] > compared.before["lesion"])
    assert json.loads((out / BEFORE_AFTER).read_text()) == {
        "cases": 2,
        "before": dict(compared.before),
        "after": dict(compared.after),
        "better": compared.better,
    }
    # The curve shows the held-out cases; the model knows its quality, and what it was before.
    assert [row["step"] for row in read_log(out) if "test" in row] == [2, 4]
    assert header.quality["cases"] == 2
    assert header.data["from"]["digest"] == start.digest
    assert header.training_images
    with pytest.raises(UserError, match="were seen in training"):
        evaluate(model, images, Sampling(votes=1), split="all")


def test_the_same_command_compares_what_is_there_and_trains_no_more(
    trained: Path, images: Path, results: Path, tmp_path: Path
):
    all_fixed(results, images, range(9))
    start = find_start(trained)
    corrections = read_corrections(results, start)
    model, compared = train_on_reviews(
        short(corrections), corrections, tmp_path / "run", start, "cpu"
    )
    before = model.read_bytes()
    (tmp_path / "run" / BEFORE_AFTER).unlink()
    all_fixed(results, images, range(9, 12))
    again = read_corrections(results, start)
    assert train_on_reviews(short(again), again, tmp_path / "run", start, "cpu") == (
        model,
        compared,
    )
    assert model.read_bytes() == before


def test_fewer_cases_are_all_trained_on_and_that_is_told(
    trained: Path, images: Path, results: Path, tmp_path: Path
):
    all_fixed(results, images, range(2))
    start, lines = find_start(trained), list[str]()
    corrections = read_corrections(results, start)
    model, compared = train_on_reviews(
        short(corrections), corrections, tmp_path / "run", start, "cpu", lines_into(lines)
    )
    assert compared is None
    assert not (tmp_path / "run" / BEFORE_AFTER).exists()
    assert len(read_header(model).data["train"]) == 2
    assert read_reviews(results).held_out == ()
    assert any("fewer than 8 cases" in line for line in lines)


def names_of(split: Sequence[object]) -> set[str]:
    return {case.name for case in split}


def test_a_held_out_case_is_never_trained_on_later(
    trained: Path, images: Path, results: Path, tmp_path: Path
):
    """Not when further cases are reviewed, nor when patients become known, nor under a copy."""
    start = find_start(trained)
    first = read_corrections(all_fixed(results, images, range(8)), start).split()
    held = names_of(first.test)
    assert len(held) == 2
    second = read_corrections(all_fixed(results, images, range(8, 12)), start).split()
    assert held < names_of(second.test)
    assert not names_of(second.test) & names_of(second.train)
    of_patients = read_corrections(results, start, patient=r"\d\d\d[0-4]|\d+").split()
    assert held <= names_of(of_patients.test)
    content = json.loads((results / "review.json").read_text())
    one = sorted(held)[0]
    shutil.copy(images / "images" / f"{one}.png", tmp_path / "a_copy.png")
    row = {"input": str(tmp_path / "a_copy.png"), "mask": "a_copy_mask.png"}
    shutil.copy(results / "reviewed" / f"{one}.png", results / "a_copy_mask.png")
    listed = json.loads((results / "predictions.json").read_text())
    listed["predictions"].append({**listed["predictions"][0], **row})
    (results / "predictions.json").write_text(json.dumps(listed))
    content["cases"]["a_copy.png"] = {
        "input": row["input"],
        "verdict": "accept",
        "when": "2026-01-31T12:00:00",
    }
    (results / "review.json").write_text(json.dumps(content))
    assert "a_copy" in names_of(read_corrections(results, start).split().test)


def test_cases_that_the_model_has_seen_are_not_compared(
    trained: Path, phantoms: Path, images: Path, tmp_path: Path
):
    """Neither chosen anew, nor if they were held out before for another model."""
    results = predicted(trained, phantoms, tmp_path / "results")
    names = read_header(trained / "model.safetensors").data
    start = find_start(trained)
    all_fixed(results, phantoms, range(16))
    corrections = read_corrections(results, start)
    assert corrections.seen == {*names["train"], *names["validation"]}
    split = corrections.split()
    assert names_of(split.test) == set(names["test"])
    keep_held_out(results, [names["train"][0]])
    corrections, lines = read_corrections(results, start), list[str]()
    model, compared = train_on_reviews(
        short(corrections), corrections, tmp_path / "run", start, "cpu", lines_into(lines)
    )
    assert len(read_header(model).data["test"]) == 5
    assert compared is not None
    assert compared.cases == 4
    assert any("1 held-out cases were seen by the model" in line for line in lines)


def test_an_accepted_mask_is_no_measure_of_the_next_model(
    trained: Path, images: Path, results: Path, tmp_path: Path
):
    """Its own model would score 1. It may be held out all the same, as its patient is."""
    all_fixed(results, images, range(11))
    review(results, images, {"phantom_0011": "accept"})
    keep_held_out(results, ["phantom_0011"])
    start = find_start(trained)
    corrections = read_corrections(results, start)
    model, compared = train_on_reviews(
        short(corrections), corrections, tmp_path / "run", start, "cpu"
    )
    assert "phantom_0011" in read_header(model).data["test"]
    assert compared is not None
    assert compared.cases == len(read_header(model).data["test"]) - 1


def test_cases_whose_mask_or_review_cannot_be_used_are_left_out_and_told(
    trained: Path, images: Path, results: Path
):
    all_fixed(results, images, range(5))
    (results / "reviewed" / "phantom_0001.png").write_bytes(b"no picture")
    Pillow.new("L", (31, 32)).save(results / "reviewed" / "phantom_0002.png")
    content = json.loads((results / "review.json").read_text())
    content["cases"]["phantom_0003.png"]["verdict"] = "perhaps"
    (results / "review.json").write_text(json.dumps(content))
    corrections = read_corrections(results, find_start(trained))
    assert set(corrections.groups) == {"phantom_0000", "phantom_0004"}
    assert corrections.reviewed.corrected == {"phantom_0000", "phantom_0004"}
    (review, damaged, shape) = corrections.reviewed.left_out
    assert "phantom_0003.png is left out" in review and "review.json" in review
    assert "phantom_0001 is left out" in damaged
    assert "phantom_0002 is left out" in shape and "31" in shape
    for number in (0, 4):
        (results / "reviewed" / f"phantom_000{number}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="none can be used"):
        read_corrections(results, find_start(trained))


def test_a_case_whose_image_was_replaced_is_left_out(
    trained: Path, images: Path, results: Path, tmp_path: Path
):
    """Also if the new image was segmented, and has the shape of the mask of the old one."""
    own = shutil.copytree(images, tmp_path / "images")
    results = predicted(trained, own, tmp_path / "own", 3)
    review(results, own, {"phantom_0000": "accept", "phantom_0001": "fix", "phantom_0002": "fix"})
    content = json.loads((results / "review.json").read_text())
    rows = json.loads((results / "predictions.json").read_text())["predictions"]
    content["cases"]["phantom_0002.png"]["image"] = rows[2]["input_digest"]
    (results / "review.json").write_text(json.dumps(content))
    start = find_start(trained)
    assert len(read_corrections(results, start).groups) == 3
    for number in (0, 2):
        shutil.copy(images / "images/phantom_0009.png", own / f"images/phantom_000{number}.png")
    predict(trained, [own / "images/phantom_0002.png"], results, Sampling(votes=1))
    corrections = read_corrections(results, start)
    assert set(corrections.groups) == {"phantom_0001"}
    assert ["has changed" in why for why in corrections.reviewed.left_out] == [True, True]


def test_all_held_out_leaves_nothing_to_learn(trained: Path, images: Path, results: Path):
    all_fixed(results, images, range(2))
    keep_held_out(results, ["phantom_0000", "phantom_0001"])
    with pytest.raises(UserError, match="all 2 usable cases are held out"):
        read_corrections(results, find_start(trained)).split()


def test_by_command(
    trained: Path,
    images: Path,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    all_fixed(results, images, range(8))
    words = ["train", "folder", "--data", str(results), "--reviewed", "--from", str(trained)]
    words += ["--out", str(tmp_path / "run"), "--steps", "2", "--training.batch=2"]
    assert main([*words, "--dry-run"]) == 0
    assert "watch_test: true" in capsys.readouterr().out
    assert read_reviews(results).held_out == ()
    assert main(words) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].startswith("lesion: Dice ")
    assert "on 2 held-out cases" in lines[1]
    assert lines[2] == str(tmp_path / "run" / "model.safetensors")
    assert "0 accepted, 8 corrected and 0 rejected" in shown.err
    model = small_recipe()
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert replace(header.recipe.data, partition="interleaved", validation=True) == model.data
    assert main([*words[:5], *words[7:]]) == 2
    assert "--reviewed trains a model further" in capsys.readouterr().err
    assert main([*words, "--fold", "1"]) == 2
    assert "have no folds" in capsys.readouterr().err
