"""Comparisons: of what, refused when, and what the tables say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image as pictures

from cdal.cli import main
from cdal.evaluation.comparison import compare
from cdal.evaluation.figures import differences
from cdal.evaluation.metrics import SCORES
from cdal.evaluation.significance import holm, paired_t, permutation, wilcoxon
from cdal.evaluation.tables import remarks, table, uncertainty_table, write_comparison
from cdal.runtime.errors import UserError

CASES = ("a", "b", "c", "d", "e", "f")
CLASSES = ("front", "back")


def evaluation(
    folder: Path,
    name: str,
    dice: np.ndarray,
    fold: int | None = 0,
    cases: tuple[str, ...] = CASES,
    more: dict[str, Any] | None = None,
    **protocol: Any,
) -> Path:
    """An evaluation on disk; `dice` is `[cases, classes]`."""
    folder.mkdir(parents=True)
    rows = [
        {"scoring": "own-grid", "case": case, "class": kind, **dict.fromkeys(SCORES, 0.5), "dice": dice[i, k], "seconds": 1}
        for i, case in enumerate(cases)
        for k, kind in enumerate(CLASSES)
    ]
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = {"scoring": "own-grid", "segmenter": name, "data": "set", "partition": "interleaved", "folds": 4, "fold": fold}
    said |= {"split": "test", "unit": "mm", "empty_masks": "1", "truth": f"truth of {fold}"}
    training = {"seconds": 120.0, "steps": 50, "peak_memory": 1.5}
    cost = {"parameters": 2_000_000, "gigaflops": 3.5, "training": training}
    summary = {"protocol": said | protocol, "seconds_per_case": 0.25, "cost": cost, **(more or {})}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def dice() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.7, 0.95, size=(len(CASES), len(CLASSES)))


def test_differences_are_tested_over_the_mean_of_the_classes_and_corrected(tmp_path: Path, dice: np.ndarray):
    better, worse = np.minimum(dice + np.array([0.02, 0.04]), 1), dice - np.linspace(0.0, 0.1, 6)[:, None]
    results = [evaluation(tmp_path / name, name, values) for name, values in (("ours", dice), ("better", better), ("worse", worse))]
    comparison = compare(results)
    assert comparison.reference == "ours"
    mean = {"better": better.mean(axis=1), "worse": worse.mean(axis=1)}
    for test, found in (
        (wilcoxon, [comparison.against[name].wilcoxon for name in mean]),
        (permutation, [comparison.against[name].permutation for name in mean]),
    ):
        assert found == pytest.approx(holm([test(values, dice.mean(axis=1)) for values in mean.values()]))
    assert comparison.against["better"].difference == pytest.approx((better - dice).mean())
    low, high = comparison.against["worse"].interval
    assert low < comparison.against["worse"].difference < high < 0


def test_folds_of_one_system_are_taken_together(tmp_path: Path, dice: np.ndarray):
    for fold in (1, 0):
        cases = tuple(f"{case}{fold}" for case in CASES)
        evaluation(tmp_path / f"one/fold-{fold}/evaluation", "one", dice - fold / 10, fold, cases)
        evaluation(tmp_path / f"two/fold-{fold}/evaluation", "two", dice - fold / 10 - 0.01 * (1 + fold), fold, cases)
    comparison = compare([tmp_path], reference="one")
    one = comparison.competitors[0]
    assert len(one.values("dice")) == 2 * len(CASES)
    by_fold = np.array([dice.mean(), dice.mean() - 0.1])
    assert one.by_fold("dice") == pytest.approx(by_fold)
    assert comparison.against["two"].t_over_folds == pytest.approx(paired_t(by_fold - [0.01, 0.02], by_fold))
    numbers = comparison.to_dict()["systems"]["one"]["mean"]["dice"]
    assert numbers["sd_over_folds"] == pytest.approx(by_fold.std(ddof=1))
    assert any("paper's" in remark for remark in remarks(comparison))
    assert "±" in table(comparison)[1][1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": (*CASES[:-1], "other")}, "lacks the cases f.*has also the cases other"),
        ({"split": "validation"}, "split is 'test' there and 'validation' here"),
        ({"scoring": "monuseg-512"}, "scoring is"),
        ({"data": "else"}, "data is 'set' there and 'else' here"),
        ({"truth": "changed"}, "other labels"),
        ({"fold": 1}, r"folds \[0\], theirs on \[1\]"),
    ],
)
def test_other_cases_or_protocols_are_refused_by_name(tmp_path: Path, dice: np.ndarray, changes: dict[str, Any], said: str):
    one = evaluation(tmp_path / "one", "ours", dice)
    other = evaluation(tmp_path / "other", "theirs", dice, **changes)
    if "scoring" in changes:
        text = (other / "cases.csv").read_text()
        (other / "cases.csv").write_text(text.replace("own-grid", changes["scoring"]))
    with pytest.raises(UserError, match=said):
        compare([one, other])


def test_the_order_of_cases_on_disk_does_not_matter(tmp_path: Path, dice: np.ndarray):
    one = evaluation(tmp_path / "one", "one", dice)
    other = evaluation(tmp_path / "other", "other", dice[::-1], cases=CASES[::-1])
    assert compare([one, other]).against["other"].wilcoxon == 1.0


def test_names_tell_evaluations_of_one_system_apart(tmp_path: Path, dice: np.ndarray):
    paths = [evaluation(tmp_path / name, "cdal", dice) for name in ("short", "long")]
    with pytest.raises(UserError, match=r"several evaluations of cdal.*NAME=FOLDER"):
        compare(paths)
    comparison = compare([f"five minutes={paths[0]}", f"an hour={paths[1]}"])
    assert [competitor.name for competitor in comparison.competitors] == ["five minutes", "an hour"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{one}", "--reference", "else"], "no evaluation of 'else'"),
        (["{one}", "--score", "dise"], "no score 'dise'"),
        (["nowhere"], "holds no evaluation"),
        (["{damaged}"], "is no evaluation"),
    ],
)
def test_what_cannot_be_compared_exits_with_2(
    words: list[str], said: str, tmp_path: Path, dice: np.ndarray, capsys: pytest.CaptureFixture[str]
):
    one = evaluation(tmp_path / "one", "ours", dice)
    damaged = evaluation(tmp_path / "damaged", "ours", dice)
    (damaged / "cases.csv").write_text("case,class\n")
    (damaged / "summary.json").write_text("{}")
    assert main(["compare", *[word.format(one=one, damaged=damaged) for word in words]]) == 2
    assert said in capsys.readouterr().err


def test_uncertainty_stands_beside_the_scores(tmp_path: Path, dice: np.ndarray, capsys: pytest.CaptureFixture[str]):
    for name, folds in {
        "one": [{"ece": 0.1, "auroc_spread": 0.9}, {"ece": 0.2, "auroc_spread": 0.7}],
        "two": [{"ece": 0.3}] * 2,
    }.items():
        for fold, uncertainty in enumerate(folds):
            cases = tuple(f"{case}{fold}" for case in CASES)
            told = {"uncertainty": {**uncertainty, "nll": None, "reliability": {"voxels": []}}, "annotators": {"ged": 0.5}}
            evaluation(tmp_path / f"{name}-{fold}", name, dice, fold, cases, more=told)
    comparison = compare(sorted(tmp_path.iterdir()))
    one, two = (comparison.to_dict()["systems"][name]["uncertainty"] for name in ("one", "two"))
    assert one["auroc_spread"] == {"mean": pytest.approx(0.8), "sd": pytest.approx(np.std([0.7, 0.9], ddof=1))}
    assert set(two) == {"ece", "ged"}
    heads, *rows = uncertainty_table(comparison)
    assert heads == ["system", "ECE", "AUROC of errors, spread", "GED"]
    assert rows == [["one", "0.15 ± 0.07", "0.8 ± 0.1", "0.5 ± 0"], ["two", "0.3 ± 0", "", "0.5 ± 0"]]
    write_comparison(comparison, tmp_path / "out")
    for name in ("comparison.md", "comparison.html"):
        assert "AUROC of errors" in (tmp_path / "out" / name).read_text()
    assert main(["compare", *(str(tmp_path / f"{name}-{fold}") for name in ("one", "two") for fold in (0, 1))]) == 0
    assert "AUROC of errors" in " ".join(capsys.readouterr().out.split())


def test_every_form_of_the_table_says_the_same(tmp_path: Path, dice: np.ndarray):
    one = evaluation(tmp_path / "one", "net_a", dice)
    other = evaluation(tmp_path / "other", "net_b", dice - 0.05)
    comparison = compare([one, other])
    written = {path.name: path for path in write_comparison(comparison, tmp_path / "out")}
    figures = {"differences.png", "boxes.png", "slopes.png"}
    assert set(written) == {f"comparison.{kind}" for kind in ("md", "csv", "tex", "html", "json")} | figures
    mean = f"{100 * (dice - 0.05).mean():.2f}"
    for kind in ("md", "tex", "html"):
        text = written[f"comparison.{kind}"].read_text()
        assert mean in text
        assert "-5.00" in text
    assert r"net\_b" in written["comparison.tex"].read_text()
    with written["comparison.csv"].open() as file:
        rows = {(row["system"], row["class"], row["score"]): row for row in csv.DictReader(file)}
    assert float(rows["net_b", "mean", "dice"]["mean"]) == pytest.approx((dice - 0.05).mean())
    assert float(rows["net_b", "mean", "dice"]["parameters"]) == 2_000_000
    assert float(rows["net_b", "front", "dice"]["low"]) < (dice[:, 0] - 0.05).mean() < float(rows["net_b", "front", "dice"]["high"])
    numbers = json.loads(written["comparison.json"].read_text())["systems"]["net_b"]
    assert numbers["cost"] == {
        "parameters": 2e6,
        "gigaflops": 3.5,
        "seconds_per_image": 0.25,
        "training_minutes": 2.0,
        "training_steps": 50.0,
        "peak_memory_gib": 1.5,
    }
    for name in figures:
        assert np.ptp(pictures.imread(written[name])) > 0


def test_the_picture_of_differences_shows_them_with_intervals_and_seeds(tmp_path: Path, dice: np.ndarray):
    """What is drawn is what was tested, in points; where one is far away, the near ones can still be told apart."""
    for seed, shift in enumerate((0.0, 0.01, 0.03)):
        for name, less in (("ours", 0.0), ("near", 0.004), ("far", 0.3)):
            evaluation(tmp_path / f"{name}-{seed}", name, dice - shift - less * (1 + dice), training_seed=seed)
    comparison = compare(sorted(tmp_path.iterdir()), reference="ours")
    (axis,) = differences(comparison).axes
    (points, _, (bars,)) = axis.containers[0]
    drawn = dict(zip([label.get_text() for label in axis.get_yticklabels()], points.get_xdata(), strict=True))
    assert drawn == {name: pytest.approx(-100 * less * (1 + dice.mean())) for name, less in (("near", 0.004), ("far", 0.3))}
    ends = {name: segment[:, 0] for name, segment in zip(drawn, bars.get_segments(), strict=True)}
    assert ends["far"] == pytest.approx(100 * np.array(comparison.against["far"].interval))
    band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
    assert band.x1 == pytest.approx(100 * np.std([0.0, 0.01, 0.03], ddof=1))
    assert axis.get_xscale() == "symlog"


def test_json_on_standard_output_is_all_there_is(tmp_path: Path, dice: np.ndarray, capsys: pytest.CaptureFixture[str]):
    one, other = (evaluation(tmp_path / name, name, dice) for name in ("one", "other"))
    assert main(["compare", str(one), str(other), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["systems"]) == ["one", "other"]


def test_a_system_that_failed_is_a_row_that_says_so(tmp_path: Path, dice: np.ndarray):
    evaluation(tmp_path / "one/fold-0/evaluation", "one", dice)
    (tmp_path / "two/fold-0").mkdir(parents=True)
    failure = {"segmenter": "two", "fold": 0, "stage": "training", "message": "out of memory"}
    (tmp_path / "two/fold-0/failed.json").write_text(json.dumps(failure))
    comparison = compare([tmp_path])
    assert [row[:2] for row in table(comparison)[2:]] == [["two", "failed"]]
    assert remarks(comparison)[0] == "two failed: fold 0, training: out of memory"
    assert comparison.to_dict()["systems"]["two"] == {"failure": "fold 0, training: out of memory"}
    write_comparison(comparison, tmp_path / "out")


def test_distances_are_told_in_millimetres(tmp_path: Path, dice: np.ndarray):
    comparison = compare([evaluation(tmp_path / "one", "one", dice)], score="hd95")
    head, row = table(comparison)
    assert "HD95 front (mm)" in head
    assert row[1].startswith("0.50")


def test_a_case_that_several_folds_test_counts_once(tmp_path: Path, dice: np.ndarray):
    """As with data that have test cases of their own, where every fold trains another model and tests the same cases."""
    for fold in range(3):
        evaluation(tmp_path / f"one/{fold}", "one", dice + fold / 100, fold)
        evaluation(tmp_path / f"two/{fold}", "two", dice * 0.99, fold)
    comparison = compare([tmp_path])
    one, two = comparison.competitors
    assert one.values("dice") == pytest.approx(dice.mean(axis=1) + 0.01)
    assert comparison.against["two"].wilcoxon == pytest.approx(wilcoxon(dice.mean(axis=1) * 0.99, dice.mean(axis=1) + 0.01))
    assert len(two.by_fold("dice")) == 3
    assert any("a case counts once" in remark for remark in remarks(comparison))


def test_a_case_without_a_distance_is_left_out_and_said_to_be(tmp_path: Path, dice: np.ndarray):
    folders = [evaluation(tmp_path / name, name, dice) for name in ("one", "two")]
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
    folders = [evaluation(tmp_path / name, name, np.full((1, 2), 0.5), cases=("a",)) for name in ("one", "two")]
    comparison = compare(folders)
    assert np.isnan(comparison.against["two"].wilcoxon)
    assert table(comparison)[1][1] == "50.00"
    write_comparison(comparison, tmp_path / "out")


def test_another_scoring_protocol_of_the_same_evaluations(tmp_path: Path, dice: np.ndarray):
    folders = [evaluation(tmp_path / name, name, dice) for name in ("one", "two")]
    for folder in folders:
        text = (folder / "cases.csv").read_text()
        (folder / "cases.csv").write_text(text + text.split("\n", 1)[1].replace("own-grid", "cxr-256").replace("0.5", "0.25"))
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"also": {"cxr-256": {}}}))
    comparison = compare(folders, score="iou", scoring="cxr-256")
    assert comparison.described["one"][None]["iou"].mean == 0.25
    with pytest.raises(UserError, match="was not scored by monuseg-512, but by own-grid, cxr-256"):
        compare(folders, scoring="monuseg-512")


def test_folders_and_names_may_have_equals_signs_and_dollars(tmp_path: Path, dice: np.ndarray):
    one = evaluation(tmp_path / "lr=0.1", "net", dice)
    two = evaluation(tmp_path / "lr=0.2", "net", dice)
    comparison = compare([f"$l^=$={one}", f"b={two}"])
    assert [competitor.name for competitor in comparison.competitors] == ["$l^=$", "b"]
    written = write_comparison(comparison, tmp_path / "out")
    assert r"\$l\textasciicircum{}=\$" in next(path for path in written if path.suffix == ".tex").read_text()


@pytest.mark.parametrize("text", ["", "{}", '{"segmenter": "a"}', "[]"])
def test_a_damaged_failure_is_told(text: str, tmp_path: Path, dice: np.ndarray):
    evaluation(tmp_path / "one", "one", dice)
    (tmp_path / "failed.json").write_text(text)
    with pytest.raises(UserError, match=r"failed\.json is damaged"):
        compare([tmp_path])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "cases.csv").write_text((folder / "cases.csv").read_text().rsplit("\n", 2)[0]),
        lambda folder: (folder / "cases.csv").write_text((folder / "cases.csv").read_text().split("\n", 1)[0] + "\n"),
        lambda folder: (folder / "summary.json").write_text('{"protocol": {"scoring": "own-grid", "segmenter": "a"}}'),
        lambda folder: (folder / "summary.json").write_text('{"protocol": {"scoring": "own-grid", "segmenter": "a", "fold": 0}}'),
        lambda folder: (folder / "summary.json").write_text("[]"),
    ],
)
def test_a_damaged_evaluation_is_told(damage, tmp_path: Path, dice: np.ndarray):
    folder = evaluation(tmp_path / "one", "one", dice)
    damage(folder)
    with pytest.raises(UserError, match="is no evaluation"):
        compare([folder])
