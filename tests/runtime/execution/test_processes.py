"""Verbs in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

from cdal.runtime.execution.processes import run_verb, tied

SLEEPER = """
import time
from cdal.runtime.execution.processes import end_with_parent
end_with_parent()
print("begun", flush=True)
time.sleep(30)
print("ended", flush=True)
"""
OTHER = f"""
import subprocess, sys
from cdal.runtime.execution.processes import tied
one = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], stdin=subprocess.PIPE, env=tied())
one.wait()
"""

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


def test_a_verb_ends_with_the_process_that_started_it_however_that_ends():
    command = [sys.executable, "-c", OTHER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as between:
        assert between.stdout is not None
        assert between.stdout.readline() == "begun\n"
        between.send_signal(signal.SIGKILL)
        assert between.stdout.read() == ""  # what it had started has ended, and not by itself


def test_a_process_that_is_not_tied_goes_on_without_standard_input():
    command = [sys.executable, "-c", SLEEPER.replace("30", "0.3")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout.split() == ["begun", "ended"] and "CDAL_TIED" in tied()
