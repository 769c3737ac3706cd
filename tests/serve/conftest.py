"""What tests of the server and of its page share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.serve import training
from helpers.trainings import Pretended


@pytest.fixture
def process(volume_model: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """The process of a training, without the minutes that it takes."""
    pretended = Pretended(volume_model)
    monkeypatch.setattr(training, "run_verb", pretended)
    return pretended
