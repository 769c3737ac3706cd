"""The bench at a few moments. `make test-faults` tries many."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
QUICK = ("predict", "review", "ensemble", "export --to bundle", "data convert", "data prepare")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")
@pytest.mark.parametrize("command", [*QUICK, "train"])
def test_no_fault_loses_anything(command: str):
    words = ["--moments", "2", "--seed", "1", "--command", command]
    done = subprocess.run(
        [sys.executable, "-m", "faults", *words],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 0 |" in done.stdout.splitlines()[-1]
