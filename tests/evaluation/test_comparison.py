"""Comparisons: of what, refused when, and what is tested."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cdal.cli import main
from cdal.evaluation.comparison import compare
from cdal.evaluation.tables import remarks, table, write_comparison
from cdal.runtime.errors import UserError
from helpers.results import CASES, evaluation_on_disk


def corrected(p: list[float]) -> list[float]:
    """Two p-values after Holm: the smaller counts twice, and the other is not below it."""
    return [2 * min(p) if value == min(p) else max(2 * min(p), value) for value in p]


def test_differences_are_tested_over_the_mean_of_the_classes_and_corrected(
    tmp_path: Path, dice: np.ndarray
):
    better, worse = (
        np.minimum(dice + np.array([0.02, 0.04]), 1),
        dice - np.linspace(0.0, 0.1, 6)[:, None],
    )
    results = [
        evaluation_on_disk(tmp_path / name, name, values)
        for name, values in (("ours", dice), ("better", better), ("worse", worse))
    ]
    comparison = compare(results)
    assert comparison.reference == "ours"
    mean = {"better": better.mean(axis=1), "worse": worse.mean(axis=1)}
    pairs = {name: values - dice.mean(axis=1) for name, values in mean.items()}
    by_rank = [stats.wilcoxon(difference).pvalue for difference in pairs.values()]
    by_sign = [
        stats.permutation_test((x,), np.mean, permutation_type="samples").pvalue
        for x in pairs.values()
    ]
    for name, p, q in zip(pairs, corrected(by_rank), corrected(by_sign), strict=True):
        assert comparison.against[name].wilcoxon == pytest.approx(p)
        assert comparison.against[name].permutation == pytest.approx(q)
    assert comparison.against["better"].difference == pytest.approx((better - dice).mean())
    low, high = comparison.against["worse"].interval
    assert low < comparison.against["worse"].difference < high < 0


def test_folds_of_one_system_are_taken_together(tmp_path: Path, dice: np.ndarray):
    for fold in (1, 0):
        cases = tuple(f"{case}{fold}" for case in CASES)
        evaluation_on_disk(
            tmp_path / f"one/fold-{fold}/evaluation", "one", dice - fold / 10, fold, cases
        )
        evaluation_on_disk(
            tmp_path / f"two/fold-{fold}/evaluation",
            "two",
            dice - fold / 10 - 0.01 * (1 + fold),
            fold,
            cases,
        )
    comparison = compare([tmp_path], reference="one")
    one = comparison.competitors[0]
    assert len(one.values("dice")) == 2 * len(CASES)
    by_fold = np.array([dice.mean(), dice.mean() - 0.1])
    assert one.by_fold("dice") == pytest.approx(by_fold)
    assert comparison.against["two"].t_over_folds == pytest.approx(
        stats.ttest_rel(by_fold - [0.01, 0.02], by_fold).pvalue
    )
    numbers = comparison.to_dict()["systems"]["one"]["mean"]["dice"]
    assert numbers["sd_over_folds"] == pytest.approx(by_fold.std(ddof=1))
    assert any("paper's" in remark for remark in remarks(comparison))
    assert "±" in table(comparison)[1][1]


def test_an_ensemble_is_one_result_for_several_trainings(tmp_path: Path, dice: np.ndarray):
    singles = [
        evaluation_on_disk(tmp_path / f"one-{seed}", "one", dice - seed / 10, training_seed=seed)
        for seed in (0, 1)
    ]
    both = evaluation_on_disk(tmp_path / "both", "both", dice, members=2, training_seed=None)
    for order in ([*singles, both], [both, *singles]):
        comparison = compare(order, reference="one")
        assert comparison.against["both"].difference == pytest.approx(0.05)
    other = evaluation_on_disk(tmp_path / "other", "other", dice, members=2, truth="changed")
    with pytest.raises(UserError, match="other labels"):
        compare([*singles, other])
    other = evaluation_on_disk(tmp_path / "fold", "fold", dice, fold=1, members=2)
    with pytest.raises(UserError, match=r"folds \[0, 0\], fold on \[1\]"):
        compare([*singles, other])
    single = evaluation_on_disk(tmp_path / "single", "single", dice)
    with pytest.raises(UserError, match=r"folds \[0, 0\], single on \[0\]"):
        compare([*singles, single])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": (*CASES[:-1], "other")}, "lacks the cases f.*has also the cases other"),
        ({"split": "validation"}, "split is 'test' there and 'validation' here"),
        ({"scoring": "monuseg-512"}, "scoring is"),
        ({"data": "else"}, "data is 'set' there and 'else' here"),
        ({"truth": "changed"}, "other labels"),
        ({"fold": 1}, r"folds \[0\], theirs on \[1\]"),
    ],
)
def test_other_cases_or_protocols_are_refused_by_name(
    tmp_path: Path, dice: np.ndarray, changes: dict[str, Any], message: str
):
    one = evaluation_on_disk(tmp_path / "one", "ours", dice)
    other = evaluation_on_disk(tmp_path / "other", "theirs", dice, **changes)
    if "scoring" in changes:
        text = (other / "cases.csv").read_text()
        (other / "cases.csv").write_text(text.replace("own-grid", changes["scoring"]))
    with pytest.raises(UserError, match=message):
        compare([one, other])


def test_the_order_of_cases_on_disk_does_not_matter(tmp_path: Path, dice: np.ndarray):
    one = evaluation_on_disk(tmp_path / "one", "one", dice)
    other = evaluation_on_disk(tmp_path / "other", "other", dice[::-1], cases=CASES[::-1])
    assert compare([one, other]).against["other"].wilcoxon == 1.0


def test_names_distinguish_evaluations_of_one_system(tmp_path: Path, dice: np.ndarray):
    paths = [evaluation_on_disk(tmp_path / name, "cdal", dice) for name in ("short", "long")]
    with pytest.raises(UserError, match=r"several evaluations of cdal.*NAME=FOLDER"):
        compare(paths)
    comparison = compare([f"five minutes={paths[0]}", f"an hour={paths[1]}"])
    assert [competitor.name for competitor in comparison.competitors] == ["five minutes", "an hour"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{one}", "--reference", "else"], "no evaluation of 'else'"),
        (["{one}", "--score", "dise"], "no score 'dise'"),
        (["nowhere"], "holds no evaluation"),
        (["{damaged}"], "is no evaluation"),
    ],
)
def test_what_cannot_be_compared_exits_with_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    dice: np.ndarray,
    capsys: pytest.CaptureFixture[str],
):
    one = evaluation_on_disk(tmp_path / "one", "ours", dice)
    damaged = evaluation_on_disk(tmp_path / "damaged", "ours", dice)
    (damaged / "cases.csv").write_text("case,class\n")
    (damaged / "summary.json").write_text("{}")
    assert main(["compare", *[word.format(one=one, damaged=damaged) for word in words]]) == 2
    assert message in capsys.readouterr().err


def test_json_on_standard_output_is_all_there_is(
    tmp_path: Path, dice: np.ndarray, capsys: pytest.CaptureFixture[str]
):
    one, other = (evaluation_on_disk(tmp_path / name, name, dice) for name in ("one", "other"))
    assert main(["compare", str(one), str(other), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["systems"]) == ["one", "other"]


def test_a_system_that_failed_is_a_row_that_says_so(tmp_path: Path, dice: np.ndarray):
    evaluation_on_disk(tmp_path / "one/fold-0/evaluation", "one", dice)
    (tmp_path / "two/fold-0").mkdir(parents=True)
    failure = {"segmenter": "two", "fold": 0, "stage": "training", "message": "out of memory"}
    (tmp_path / "two/fold-0/failed.json").write_text(json.dumps(failure))
    comparison = compare([tmp_path])
    assert [row[:2] for row in table(comparison)[2:]] == [["two", "failed"]]
    assert remarks(comparison)[0] == "two failed: fold 0, training: out of memory"
    assert comparison.to_dict()["systems"]["two"] == {"failure": "fold 0, training: out of memory"}
    write_comparison(comparison, tmp_path / "out")


def test_a_case_that_several_folds_test_counts_once(tmp_path: Path, dice: np.ndarray):
    """As with data that have test cases of their own, where every fold trains another model and
    tests the same cases.
    """
    for fold in range(3):
        evaluation_on_disk(tmp_path / f"one/{fold}", "one", dice + fold / 100, fold)
        evaluation_on_disk(tmp_path / f"two/{fold}", "two", dice * 0.99, fold)
    comparison = compare([tmp_path])
    one, two = comparison.competitors
    assert one.values("dice") == pytest.approx(dice.mean(axis=1) + 0.01)
    difference = 0.99 * dice.mean(axis=1) - (dice.mean(axis=1) + 0.01)
    assert comparison.against["two"].wilcoxon == pytest.approx(stats.wilcoxon(difference).pvalue)
    assert len(two.by_fold("dice")) == 3
    assert any("a case counts once" in remark for remark in remarks(comparison))


def test_a_case_without_a_distance_is_left_out_and_said_to_be(tmp_path: Path, dice: np.ndarray):
    folders = [evaluation_on_disk(tmp_path / name, name, dice) for name in ("one", "two")]
    with (folders[1] / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["hd95"], rows[2]["hd95"] = "nan", "2.5"
    with (folders[1] / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    comparison = compare(folders, score="hd95")
    found = comparison.described["two"][None]["hd95"]
    assert found.missing == 1
    assert found.mean == pytest.approx((1.5 + 4 * 0.5) / 5)
    assert comparison.against["two"].difference == pytest.approx(0.2)
    assert "two: 1 of 6 cases have no HD95, and are in no mean of it." in remarks(comparison)
    write_comparison(comparison, tmp_path / "out")


def test_one_case_has_no_test_and_no_interval(tmp_path: Path):
    folders = [
        evaluation_on_disk(tmp_path / name, name, np.full((1, 2), 0.5), cases=("a",))
        for name in ("one", "two")
    ]
    comparison = compare(folders)
    assert np.isnan(comparison.against["two"].wilcoxon)
    assert table(comparison)[1][1] == "50.00"
    write_comparison(comparison, tmp_path / "out")


def test_another_scoring_protocol_of_the_same_evaluations(tmp_path: Path, dice: np.ndarray):
    folders = [evaluation_on_disk(tmp_path / name, name, dice) for name in ("one", "two")]
    for folder in folders:
        text = (folder / "cases.csv").read_text()
        (folder / "cases.csv").write_text(
            text + text.split("\n", 1)[1].replace("own-grid", "cxr-256").replace("0.5", "0.25")
        )
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"also": {"cxr-256": {}}}))
    comparison = compare(folders, score="iou", scoring="cxr-256")
    assert comparison.described["one"][None]["iou"].mean == 0.25
    with pytest.raises(UserError, match="was not scored by monuseg-512, but by own-grid, cxr-256"):
        compare(folders, scoring="monuseg-512")
