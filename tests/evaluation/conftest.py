"""What the tests of evaluation share."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.results import CASES, CLASSES


@pytest.fixture
def dice() -> np.ndarray:
    """Scores `[cases, classes]`."""
    return np.random.default_rng(0).uniform(0.7, 0.95, size=(len(CASES), len(CLASSES)))
