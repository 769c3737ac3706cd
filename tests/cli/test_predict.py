"""What `cdal predict` says before it can know anything."""

from __future__ import annotations

import sys

import pytest

from cdal.cli import main


def test_a_terminal_hears_at_once_that_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["predict", "nobody", "x.png"]) == 2
    assert capsys.readouterr().err.startswith("loading nobody\n")
