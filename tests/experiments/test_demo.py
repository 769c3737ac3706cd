"""The demonstration."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.experiments.demo import run_demo


@pytest.mark.slow
def test_the_demonstration_keeps_its_promises(tmp_path: Path):
    outcome = run_demo(tmp_path)
    agreement = outcome.summary["annotators"]
    assert outcome.dice >= 0.90
    assert agreement["rank_correlation"] >= 0.5
    assert agreement["ged"] <= 0.8 * agreement["ged_deterministic"]
    page = outcome.report.read_text()
    assert page.count("data:image/png;base64,") >= 7
    assert 'src="http' not in page  # self-contained
