"""Running a verb of the command line in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

_TIED = "CDAL_TIED"
"""Environment variable of a process that shall end when its standard input does."""


def tied() -> dict[str, str]:
    """Environment of a verb that ends with this process, whatever ends it.

    Its standard input has to be a pipe of which this process has the other end.
    """
    return {**os.environ, _TIED: "1"}


def end_with_parent() -> None:
    """End as by SIGTERM when the process that has started this one ends, if that has `tied` it.

    A training then finishes its step and writes a checkpoint.
    """
    if os.environ.pop(_TIED, None) is None:
        return

    def wait() -> None:
        while os.read(0, 1024):
            pass  # nobody writes: the end of the pipe is the end of the other process
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="cdal-tied", daemon=True).start()


def run_verb(
    words: Sequence[str],
    on_line: Callable[[str], object],
    begun: Callable[[Callable[[], None]], object] | None = None,
) -> str:
    """Run a verb of the command line in a separate process, which ends with this one.

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
    environment = {**tied(), "PYTHONSAFEPATH": "1"}
    lines: list[str] = []
    # In a new process group the child gets no Ctrl-C from the terminal, only the signal from here.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
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
            process.wait()  # before its standard input is closed
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


def _failure(lines: Sequence[str], prefix: str) -> str:
    """Reason of a failure: the command line's own message, or the last line of a traceback."""
    starts = [i for i, line in enumerate(lines) if line.startswith(prefix)]
    message = " ".join(lines[starts[-1] :]).removeprefix(prefix) if starts else "".join(lines[-1:])
    return message or "the process failed without a message"


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables within the block, such as for processes that are started there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def interrupt(_number: int, _frame: object) -> None:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only it handles signals
        yield
        return

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
