"""Verbs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdal.runtime.execution.processes import run_verb

STARTER = """
import os, signal, subprocess, sys
child = (
    "import sys, time; from cdal.runtime.execution.processes import end_with_parent; "
    "end_with_parent(); print('begun', flush=True); time.sleep(100)"
)
environment = {**os.environ, "CDAL_PARENT": str(os.getpid())}
process = subprocess.Popen(
    [sys.executable, "-c", child], stdout=subprocess.PIPE, env=environment, start_new_session=True
)
process.stdout.readline()
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_can_be_told_to_end_as_soon_as_it_has_begun():
    reason = run_verb(["info"], lambda line: None, lambda stop: stop())
    assert reason == "the process was ended by SIGTERM"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_verb_ends_with_the_process_that_waits_for_it():
    """Which was killed, and could not tell it."""
    killed = subprocess.run([sys.executable, "-c", STARTER], capture_output=True, check=False)
    child = Path("/proc") / killed.stdout.decode().strip()
    for _ in range(100):
        if not child.exists() or "Z (zombie)" in (child / "status").read_text():
            break
        time.sleep(0.1)
    else:
        os.kill(int(child.name), 9)
        raise AssertionError("it goes on")
