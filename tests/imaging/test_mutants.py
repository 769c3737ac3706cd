"""Damaged and hostile files end no process, hang none, and raise nothing but `UserError`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cdal.imaging.annotations import ANNOTATIONS
from cdal.imaging.formats import FORMATS
from helpers.file_seeds import FILES

READERS = [*(known.name for known in (*FORMATS, *ANNOTATIONS)), *FILES]
TESTS = Path(__file__).parents[1]


def faults(count: int, seed: int, *readers: str) -> dict[str, list[str]]:
    """What went wrong, by reader."""
    command = [sys.executable, "-m", "helpers.mutants", str(count), str(seed), *readers]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_few_mutants_of_each_format():
    found = faults(5, 1)
    assert not {name: messages for name, messages in found.items() if messages}
    assert {known.name for known in FORMATS} <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_2000_mutants_of_a_format(reader: str):
    assert faults(2000, 7, reader) == {reader: []}
