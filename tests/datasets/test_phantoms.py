"""Phantoms and their simulated annotators."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.phantoms import make_phantom, write_phantoms
from cdal.experiments import find_experiment


def test_phantoms_are_a_function_of_their_seed(tmp_path: Path):
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, 2, seed=5, size=32, raters=2)
    files = [sorted(p for p in (tmp_path / name).rglob("*.png")) for name in ("a", "b")]
    assert len(files[0]) == 2 * (1 + 1 + 2)
    assert all(
        first.read_bytes() == second.read_bytes() for first, second in zip(*files, strict=True)
    )


def test_annotators_agree_inside_and_outside_and_differ_between():
    for seed in range(5):
        phantom = make_phantom(np.random.default_rng(seed), 64, 8)
        share = phantom.raters.mean(axis=0)
        assert 0 < ((share > 0) & (share < 1)).mean() < 0.4
        assert (share == 0).any()
        # The strict lie within the generous, but for their unsteady hands.
        by_size = sorted(phantom.raters, key=np.sum)
        for strict, generous in itertools.pairwise(by_size):
            assert (strict & ~generous & 1).sum() < 0.1 * strict.sum() + 10


def test_phantoms_are_drawn_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "phantoms", str(tmp_path / "p"), "--count", "8"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "p")
    folder = check_folder(tmp_path / "p").folder
    assert [len(case.labels) for case in folder.cases] == [6] * 8
    recipes = find_experiment("ingredients-phantoms").recipes()
    assert recipes["no recycling"].segmenter.votes == 16
    assert recipes["no diffusion"].segmenter.votes == 1
    assert main(["data", "phantoms", str(tmp_path / "p"), "--count", "0"]) == 2
