"""Evaluation, as a user meets it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.datasets.phantoms import write_phantoms
from cdal.datasets.reading import read_case
from cdal.evaluation.agreement import majority
from cdal.evaluation.calibration import certainty
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.metrics import SCORES, count
from cdal.evaluation.result import Evaluation, read_result, write_result
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError


def test_scores_are_those_of_the_masks_that_predict_writes(
    trained: Path, phantoms: Path, tmp_path: Path
):
    evaluation = evaluate(trained, phantoms, Sampling(votes=3, seed=5))
    write_result(evaluation, tmp_path / "scores")
    folder = open_folder(phantoms)
    predict(
        trained,
        [case.image for case in folder.cases[0::4]],
        tmp_path / "masks",
        Sampling(votes=3, seed=5),
    )
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
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["mean"][
        "dice"
    ] == pytest.approx(np.mean(dice))


def test_json_is_one_object_and_nothing_else(
    trained: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", str(trained), "--data", str(phantoms), "--votes", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["cases"] == 4
    for scores in (summary["classes"]["lesion"], summary["mean"]):
        assert {"dice", "iou", "precision", "recall"} <= set(scores)
        assert all(0 <= scores[name] <= 1 for name in ("dice", "iou", "precision", "recall"))
    assert summary["seconds_per_case"] > 0
    assert summary["protocol"]["fold"] == 0
    measures = {
        "ged",
        "ged_deterministic",
        "matched_iou",
        "diversity_agreement",
        "empty_votes",
        "empty_annotators",
        "rank_correlation",
    }
    assert set(summary["annotators"]) == measures


def test_a_table_is_shown(trained: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]):
    words = ["evaluate", str(trained), "--data", str(phantoms), "--votes", "1"]
    assert main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["classes"]["lesion"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("lesion" in line for line in lines)
    rows = [line for line in lines if "│" in line]
    assert any("4 cases, scored by" in line for line in lines)
    assert any(line.startswith("calibration: the probabilities are 0.") for line in lines)
    assert lines[-1] == "scores of each case, all measures and settings: not written (--out FOLDER)"
    for word in ("aurc", "dice by doubt", "truth", "torch"):  # in --json
        assert not any(word in line for line in lines)
    for score, heading in SCORES.items():
        (row,) = [row for row in rows if heading in row]
        numbers = [scores[score], *scores["interval"][score]]
        assert re.findall(r"\d+\.\d{4}", row) == [f"{number:.4f}" for number in numbers]


def test_cases_seen_in_training_are_not_scored_as_test_cases(trained: Path, phantoms: Path):
    with pytest.raises(UserError, match="were seen in training"):
        evaluate(trained, phantoms, fold=2)
    with pytest.raises(UserError, match="were seen in training") as error:
        evaluate(trained, phantoms, split="all")
    first, *names = str(error.value).splitlines()
    assert "Remove these cases from the folder" in first and "--fold" not in first
    assert int(first.split()[0]) == len(names) > 5
    assert {name.strip() for name in names} <= {case.name for case in open_folder(phantoms).cases}
    assert (
        evaluate(trained, phantoms, split="train", sampling=Sampling(votes=1)).summary()["cases"]
        == 8
    )


def test_other_images_of_the_same_names_are_not_training_cases(trained: Path, tmp_path: Path):
    """And they are not the model's own test cases either."""
    write_phantoms(tmp_path / "others", 16, seed=99, size=32, raters=3)
    assert (
        evaluate(trained, tmp_path / "others", split="all", sampling=Sampling(votes=1)).summary()[
            "cases"
        ]
        == 16
    )
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


def test_a_case_that_cannot_be_read_is_reported_and_the_others_are_scored(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "images" / "phantom_0004.png").write_text("no picture")
    assert (
        main(["evaluate", str(trained), "--data", str(tmp_path / "data"), "--votes", "1", "--json"])
        == 3
    )
    out, error = capsys.readouterr()
    assert json.loads(out)["cases"] == 3
    assert "phantom_0004.png" in json.loads(out)["failed"]["phantom_0004"]
    assert "phantom_0004.png" in error


def test_a_folder_without_names_takes_those_of_the_model(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    (data / "dataset.json").unlink()
    assert main(["evaluate", str(trained), "--data", str(data), "--votes", "1", "--json"]) == 0
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)["classes"]) == {"lesion"}
    assert "names no classes" in printed.err
    assert "1 = lesion" in printed.err
    (data / "dataset.json").write_text('{"labels": {"background": 0, "cyst": 1}}')
    with pytest.raises(UserError, match="expected the classes background, lesion"):
        evaluate(trained, data, Sampling(votes=1))


def test_names_like_formulas_come_back_from_a_table(tmp_path: Path):
    certainties = {"=1+1": certainty(np.full((2, 4, 4), 0.5), None, np.eye(4, dtype=np.uint8))}
    scores = dict.fromkeys(SCORES, 0.5)
    rows = [{"scoring": "own-grid", "case": "=1+1", "class": "@a", **scores, "seconds": 1.0}]
    protocol = {"scoring": "own-grid", "fold": 0, "segmenter": "x"}
    write_result(Evaluation(rows, [], [], certainties, ("@a",), protocol, {}, {}), tmp_path)
    with (tmp_path / "cases.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["class"]) == ("'=1+1", "'@a")
    result = read_result(tmp_path)
    assert (list(result.scores), result.classes) == (["=1+1"], ("@a",))
