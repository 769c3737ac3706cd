"""A verb of the command line in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def run_verb(words: Sequence[str], on_line: Callable[[str], object]) -> str:
    """Run a verb; returns why it failed, or nothing."""
    command = [sys.executable, "-m", "cdal", *words]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # modules are found where this process finds them, not where it stands
    lines: list[str] = []
    # In a session of its own, so that Ctrl-C reaches it once: from here.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None  # asked for
        try:
            for line in map(str.rstrip, process.stderr):
                on_line(line)
                lines.append(line)
        except KeyboardInterrupt:
            process.terminate()  # a training ends its step and writes a checkpoint
            process.wait()
            raise
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = ", most likely for want of memory" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    return _last_words([line for line in lines if line.strip()], f"cdal {words[0]}: ")


def _last_words(lines: Sequence[str], prefix: str) -> str:
    """What a process said of its failure: our own message, or the last line of a traceback."""
    ours = [i for i, line in enumerate(lines) if line.startswith(prefix)]
    said = " ".join(lines[ours[-1] :]).removeprefix(prefix) if ours else "".join(lines[-1:])
    return said or "the process failed and said nothing"


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
