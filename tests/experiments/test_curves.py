"""Areas and intervals of learning curves: by hand, and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cdal.experiments.curves import Curves, paired_interval
from cdal.experiments.curves_page import answers, curve_figure, curve_tables


def curves_of(random: np.ndarray, mixed: np.ndarray, measure: str = "dice") -> Curves:
    seeds, _, cases = random.shape
    names = tuple(f"c{i}" for i in range(cases))
    values = {measure: {"random": random, "mixed": mixed}}
    return Curves((5, 10, 20), ("random", "mixed"), tuple(range(seeds)), names, names, values)


def test_the_area_is_the_mean_height_by_hand():
    heights = np.array([0.2, 0.6, 0.8])[None, :, None]
    curves = curves_of(heights, heights + np.array([0, 0.1, 0.2])[None, :, None])
    assert curves.area("dice", "random") == pytest.approx((0.2 / 2 + 0.6 + 0.8 / 2) / 2)
    found = curves.difference("dice", "mixed")
    assert found.mean == pytest.approx(0.1 / 2 + 0.2 / 4)
    assert all(map(math.isnan, found.interval))  # a single case of a single seed
    assert curves.difference("dice", "mixed", 10).mean == pytest.approx(0.1)


def test_seeds_and_patients_are_drawn_together():
    rng = np.random.default_rng(3)
    values = rng.normal(0.1, 1, size=(4, 9))
    patients = tuple("aabbbcdde")
    low, high = paired_interval(values, patients, 300)
    draws, means = np.random.default_rng(0), []
    for _ in range(300):
        drawn = [list("abcde")[i] for i in draws.integers(5, size=5)]
        some = draws.integers(4, size=4)
        means.append(
            np.mean(
                [
                    values[seed, case]
                    for seed in some
                    for name in drawn
                    for case in range(9)
                    if patients[case] == name
                ]
            )
        )
    assert (low, high) == pytest.approx(np.percentile(means, [2.5, 97.5]))
    # Cases of one patient are no more evidence than that patient.
    alike = np.repeat(values[:, :3], 3, axis=1)
    apart = paired_interval(alike, tuple("abcdefghi"))
    together = paired_interval(alike, tuple("aaabbbccc"))
    assert np.ptp(together) > np.ptp(apart)


@pytest.mark.parametrize(
    ("measure", "gain", "word"),
    [
        ("dice", 0.1, "better"),
        ("dice", -0.1, "worse"),
        ("ged", -0.1, "better"),
        ("ged", 0.1, "worse"),
        ("dice", 0.0, "neither better nor worse"),
    ],
)
def test_the_answer_says_what_came_out(measure: str, gain: float, word: str):
    random = np.random.default_rng(0).uniform(0.4, 0.6, size=(5, 3, 20))
    noise = np.random.default_rng(1).normal(0, 0.01, size=random.shape)
    noise -= noise.mean()
    curves = curves_of(random, random + gain * np.array([0, 1, 1])[:, None] + noise, measure)
    (line,) = answers(curves)
    assert f"mixed is {word} than random" in line
    better = 0 if word == "worse" else 5
    if gain:
        assert f"better in {better} of 5 seeds" in line
    (rows,) = curve_tables(curves).values()
    assert [row[0] for row in rows] == ["annotated cases", "5", "10", "20", "area"]
    assert rows[2][1].startswith(f"{random[:, 1].mean():.4f} ± ")
    assert rows[1][3] == ""
    assert len(curve_figure(curves).axes) == 1
    assert curves.to_dict()["measures"][measure]["rounds"]["random"]["5"]["mean"] == pytest.approx(
        random[:, 0].mean()
    )
