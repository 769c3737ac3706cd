"""The demonstration."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.experiments.demo import run_demo
from cdal.recipes import find_recipe
from cdal.recipes.recipe import to_yaml
from cdal.runtime.errors import UserError


def test_other_settings_are_refused_before_the_work(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(to_yaml(find_recipe("phantoms")))
    (tmp_path / "run" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"training\.minutes is .* there and 0\.2 now"):
        run_demo(tmp_path, minutes=0.2)
    assert not (tmp_path / "phantoms").exists()


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
