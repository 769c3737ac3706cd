"""Verbs of the command line in this process, where a process of their own is not what is tested."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence

from cdal.cli import main


def run_here(words: Sequence[str], on_line: Callable[[str], object]) -> str:
    """In place of `cdal.runtime.execution.processes.run_verb`: why the verb failed, or nothing."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(words)
    lines = error.getvalue().splitlines()
    for line in lines:
        on_line(line)
    return "" if code == 0 else lines[-1].removeprefix(f"cdal {words[0]}: ")
