"""The tables of a comparison."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as pictures

from cdal.cli import main
from cdal.evaluation.annotators import annotators_table
from cdal.evaluation.comparison import compare
from cdal.evaluation.tables import table, uncertainty_table, write_comparison
from helpers.results import CASES, evaluation_on_disk


def test_uncertainty_stands_beside_the_scores(
    tmp_path: Path, dice: np.ndarray, capsys: pytest.CaptureFixture[str]
):
    for name, folds in {
        "one": [{"ece": 0.1, "auroc_spread": 0.9}, {"ece": 0.2, "auroc_spread": 0.7}],
        "two": [{"ece": 0.3}] * 2,
    }.items():
        for fold, uncertainty in enumerate(folds):
            cases = tuple(f"{case}{fold}" for case in CASES)
            more = {
                "uncertainty": {**uncertainty, "nll": None, "reliability": {"voxels": []}},
                "annotators": {"ged": 0.5},
            }
            evaluation_on_disk(tmp_path / f"{name}-{fold}", name, dice, fold, cases, more=more)
    comparison = compare(sorted(tmp_path.iterdir()))
    one, two = (comparison.to_dict()["systems"][name]["uncertainty"] for name in ("one", "two"))
    assert one["auroc_spread"] == {
        "mean": pytest.approx(0.8),
        "sd": pytest.approx(np.std([0.7, 0.9], ddof=1)),
    }
    assert set(two) == {"ece", "ged"}
    heads, *rows = uncertainty_table(comparison)
    assert heads == ["system", "ECE", "AUROC of errors, spread"]
    assert rows == [["one", "0.15 ± 0.07", "0.8 ± 0.1"], ["two", "0.3 ± 0", ""]]
    heads, *rows = annotators_table(comparison)
    assert heads == [
        "system",
        "GED",
        "Dice, mean (%)",
    ]  # by case no GED is known, so it has no test
    assert [row[:2] for row in rows] == [["one", "0.5 ± 0"], ["two", "0.5 ± 0"]]
    write_comparison(comparison, tmp_path / "out")
    for name in ("comparison.md", "comparison.html"):
        assert "AUROC of errors" in (tmp_path / "out" / name).read_text()
    assert (
        main(
            [
                "compare",
                *(str(tmp_path / f"{name}-{fold}") for name in ("one", "two") for fold in (0, 1)),
            ]
        )
        == 0
    )
    assert "AUROC of errors" in " ".join(capsys.readouterr().out.split())


def test_every_form_of_the_table_says_the_same(tmp_path: Path, dice: np.ndarray):
    one = evaluation_on_disk(tmp_path / "one", "net_a", dice)
    other = evaluation_on_disk(tmp_path / "other", "net_b", dice - 0.05)
    comparison = compare([one, other])
    written = {path.name: path for path in write_comparison(comparison, tmp_path / "out")}
    figures = {"differences.png", "boxes.png", "slopes.png"}
    assert (
        set(written)
        == {f"comparison.{kind}" for kind in ("md", "csv", "tex", "html", "json")} | figures
    )
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
    assert (
        float(rows["net_b", "front", "dice"]["low"])
        < (dice[:, 0] - 0.05).mean()
        < float(rows["net_b", "front", "dice"]["high"])
    )
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


def test_distances_are_shown_in_millimetres(tmp_path: Path, dice: np.ndarray):
    comparison = compare([evaluation_on_disk(tmp_path / "one", "one", dice)], score="hd95")
    head, row = table(comparison)
    assert "HD95 front (mm)" in head
    assert row[1].startswith("0.50")


def test_folders_and_names_may_have_equals_signs_and_dollars(tmp_path: Path, dice: np.ndarray):
    one = evaluation_on_disk(tmp_path / "lr=0.1", "net", dice)
    two = evaluation_on_disk(tmp_path / "lr=0.2", "net", dice)
    comparison = compare([f"$l^=$={one}", f"b={two}"])
    assert [competitor.name for competitor in comparison.competitors] == ["$l^=$", "b"]
    written = write_comparison(comparison, tmp_path / "out")
    assert (
        r"\$l\textasciicircum{}=\$"
        in next(path for path in written if path.suffix == ".tex").read_text()
    )
