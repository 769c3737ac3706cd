"""The table of a comparison about several annotators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cdal.cli import main
from cdal.evaluation.annotators import annotators_remark, annotators_table
from cdal.evaluation.comparison import Comparison, compare
from cdal.evaluation.tables import write_comparison
from helpers.results import CASES, evaluation_on_disk

SEEDS = (0, 1)


@pytest.fixture
def ged() -> np.ndarray:
    """Of every seed and case, `[seeds, cases]`; the last case has one annotator."""
    values = np.random.default_rng(1).uniform(0.2, 0.6, size=(len(SEEDS), len(CASES)))
    values[:, -1] = np.nan
    return values


@pytest.fixture
def comparison(tmp_path: Path, dice: np.ndarray, ged: np.ndarray) -> Comparison:
    """Two systems, two seeds each; the votes of the second are further from the annotators."""
    for name, more in (("near", 0.0), ("far", 0.1)):
        for seed in SEEDS:
            measures = {"ged": ged[seed] + more, "empty_votes": np.full(len(CASES), 0.25 + more)}
            evaluation_on_disk(
                tmp_path / "scores" / f"{name}-{seed}",
                name,
                dice - more,
                annotators=measures,
                training_seed=seed,
            )
    return compare([tmp_path / "scores"], reference="near", names=["near"])


def test_the_distance_is_paired_by_case_over_the_mean_of_the_seeds(
    comparison: Comparison, ged: np.ndarray
):
    near, far = (comparison.ged[name] for name in ("near", "far"))
    by_case = ged.mean(axis=0)[:-1]
    assert near.mean == pytest.approx(by_case.mean())
    assert far.mean == pytest.approx(by_case.mean() + 0.1)
    assert near.missing == 1
    assert near.sd_over_seeds == pytest.approx(np.std(np.nanmean(ged, axis=1), ddof=1))
    assert near.interval[0] < near.mean < near.interval[1]
    against = comparison.ged_against["far"]
    assert against.difference == pytest.approx(0.1)
    assert against.interval == pytest.approx((0.1, 0.1))  # the same difference in every case
    assert against.wilcoxon == pytest.approx(stats.wilcoxon(by_case + 0.1, by_case).pvalue)
    assert set(comparison.ged_against) == {"far"}


def test_the_table_has_all_measures_that_are_known_and_the_dice(
    comparison: Comparison, dice: np.ndarray, ged: np.ndarray
):
    heads, near, far = annotators_table(comparison)
    assert heads == [
        "system",
        "GED",
        "GED against near",
        "p permutation",
        "empty votes",
        "Dice, mean (%)",
    ]
    mean = np.nanmean(ged)
    assert near[1].startswith(f"{mean:.3g} ± ")
    assert far[1].startswith(f"{mean + 0.1:.3g} ± ")
    assert near[2:4] == ["reference", ""]
    assert far[2] == "+0.100 (+0.100 to +0.100)"
    assert (near[4], far[4]) == ("0.25 ± 0", "0.35 ± 0")
    assert far[5] == f"{100 * (dice.mean() - 0.1):.3g} ± 0"
    assert "standard deviation over trainings" in annotators_remark(comparison)


def test_every_form_of_the_comparison_has_it(
    comparison: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_comparison(comparison, tmp_path / "out")
    for name in ("comparison.md", "comparison.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "GED against near" in text
        assert "HM-IoU, diversity agreement" in text
    systems = json.loads((tmp_path / "out" / "comparison.json").read_text())["systems"]
    assert systems["far"]["ged_against_reference"]["difference"] == pytest.approx(0.1)
    assert systems["near"]["ged"]["mean"] == pytest.approx(comparison.ged["near"].mean)
    assert "ged_against_reference" not in systems["near"]
    assert main(["compare", str(tmp_path / "scores"), "--reference", "near"]) == 0
    assert "GED" in capsys.readouterr().out


def test_there_is_no_table_without_several_annotators(tmp_path: Path, dice: np.ndarray):
    comparison = compare([evaluation_on_disk(tmp_path / "one", "one", dice)])
    assert annotators_table(comparison) == []
    assert comparison.ged == {}
    write_comparison(comparison, tmp_path / "out")
    assert "GED" not in (tmp_path / "out" / "comparison.md").read_text()
