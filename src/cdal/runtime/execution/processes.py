"""Running a verb of the command line in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_PARENT = "CDAL_PARENT"
"""Environment variable with the process that started a verb and waits for it."""


def run_verb(
    words: Sequence[str],
    on_line: Callable[[str], object],
    begun: Callable[[Callable[[], None]], object] | None = None,
) -> str:
    """Run a verb of the command line in a separate process.

    Args:
        words: verb and its options, as on the command line.
        on_line: function called with each line that the process writes to standard error.
        begun: function called when the process has begun, with one that tells it to end.

    Returns:
        Reason of the failure; empty if the verb succeeded.
    """
    command = [sys.executable, "-m", "cdal", *words]
    # Keeps the working directory out of the module path, so that both processes find the same
    # modules.
    environment = {**os.environ, "PYTHONSAFEPATH": "1", _PARENT: str(os.getpid())}
    lines: list[str] = []
    # In a new process group the child gets no Ctrl-C from the terminal, only the signal from here.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None  # because of PIPE
        if begun is not None:
            begun(process.terminate)
        try:
            for line in map(str.rstrip, process.stderr):
                on_line(line)
                lines.append(line)
        except KeyboardInterrupt:
            process.terminate()  # a training finishes its step and writes a checkpoint
            process.wait()
            raise
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = ", most likely because memory ran out" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    return _failure([line for line in lines if line.strip()], f"cdal {words[0]}: ")


def end_with_parent() -> None:
    """End this process, as SIGTERM does, when the one is gone that has started it for a verb.

    Whoever was killed cannot tell it to end; and what starts it again needs its folder.
    """
    parent = os.environ.pop(_PARENT, "")
    if not parent.isdigit():
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _failure(lines: Sequence[str], prefix: str) -> str:
    """Reason of a failure: the command line's own message, or the last line of a traceback."""
    starts = [i for i, line in enumerate(lines) if line.startswith(prefix)]
    message = " ".join(lines[starts[-1] :]).removeprefix(prefix) if starts else "".join(lines[-1:])
    return message or "the process failed without a message"


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only it handles signals
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
