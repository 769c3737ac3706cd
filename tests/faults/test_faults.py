"""The bench at a few moments. `make test-faults` tries many."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from faults.__main__ import options_of
from faults.commands import COMMANDS
from faults.moments import FAULTS

TESTS = Path(__file__).parents[1]
QUICK = ("predict", "review", "ensemble", "export --to bundle", "data convert", "data prepare")


def test_the_help_is_readable_and_the_docs_know_each_fault(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        options_of(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert "- a file of another that has changed;" in lines
    assert {f"  {name}" for name in (*COMMANDS, *FAULTS)} <= set(lines)
    docs = (TESTS.parent / "docs/reference/files.md").read_text(encoding="utf-8")
    assert not [fault for fault in FAULTS if f"`{fault}`" not in docs]


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
