"""What the tests of experiments share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.recipes.recipe import to_yaml
from helpers.recipes import small_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A file with the small recipe, trained for two steps."""
    (tmp_path / "small.yaml").write_text(to_yaml(small_recipe(steps=2)))
    return str(tmp_path / "small.yaml")
