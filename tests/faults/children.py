"""Commands in children of this process, which has imported what they need."""

from __future__ import annotations

import importlib
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cdal.cli import main

_PATIENCE = 300.0
"""Seconds that a command may take."""

_PIPE = 2**20
_SET_PIPE_SIZE = 1031  # fcntl.F_SETPIPE_SZ, which Python 3.9 has no name for


@dataclass(frozen=True)
class Home:
    """Where a command works.

    Attributes:
        path: a folder of its own.
    """

    path: Path

    @property
    def disk(self) -> Path:
        """Folder in which the output is; a file system of its own for some faults."""
        return self.path / "disk"

    @property
    def out(self) -> Path:
        """The output."""
        return self.disk / "out"

    @property
    def tmp(self) -> Path:
        """Folder for temporary files."""
        return self.path / "tmp"

    def make(self) -> Home:
        """Make the folders."""
        self.disk.mkdir(parents=True)
        self.tmp.mkdir()
        return self

    def mount(self, size: int) -> None:
        """Make the disk a file system in memory of so many bytes, or change its size.

        Raises:
            OSError: that is not permitted here.
        """
        again = "remount," if self.disk.is_mount() else ""
        words = ["mount", "-t", "tmpfs", "-o", f"{again}rw,size={size}", "tmpfs", str(self.disk)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())

    def protect(self) -> None:
        """Make the file system of `mount` read-only."""
        subprocess.run(
            ["mount", "-o", "remount,ro", str(self.disk)], check=True, capture_output=True
        )

    def unmount(self) -> None:
        """Undo `mount`."""
        if self.disk.is_mount():
            subprocess.run(["umount", str(self.disk)], check=True)

    def processes(self) -> list[int]:
        """Processes that work here, whoever has started them."""
        sign = f"TMPDIR={self.tmp}\0".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if sign in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found


@dataclass
class Child:
    """A command that runs.

    Attributes:
        pid: its process.
        pipe: end of the pipe that has what it prints.
        began: when it was started.
        code: its exit code, or the negative number of the signal that ended it; `None` before.
        text: what it has printed.
    """

    pid: int
    pipe: int
    began: float = field(default_factory=time.monotonic)
    code: int | None = None
    text: str = ""

    def ended(self) -> bool:
        """Whether it has ended; then code and text are there."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                self.text = _printed(self.pipe)
        return self.code is not None

    def wait(self, until: float | None = None) -> None:
        """Wait for its end, or until so many seconds after its start."""
        last = self.began + (_PATIENCE if until is None else until)
        while not self.ended() and time.monotonic() < last:
            time.sleep(0.002)
        if until is None and not self.ended():
            self.kill()
            self.text += f"\nit did not end within {_PATIENCE:.0f} s"

    def kill(self) -> None:
        """End it by SIGKILL, it alone."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            while not self.ended():
                time.sleep(0.002)

    def descendants(self) -> Iterator[int]:
        """Processes below it."""
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            for listed in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    below = list(map(int, listed.read_text().split()))
                    waiting += below
                    yield from below


def nothing() -> None:
    """Do nothing."""


def start(
    line: str,
    home: Home,
    before: Callable[[], object] = nothing,
    after: Callable[[], object] = nothing,
) -> Child:
    """Start a command in a child of this process.

    Args:
        line: words after `cdal`.
        home: where it works.
        before: called in the child before the command.
        after: called in the child after the command.
    """
    read, write = os.pipe()
    with suppress(OSError):
        import fcntl

        fcntl.fcntl(write, _SET_PIPE_SIZE, _PIPE)
    words = shlex.split(line)
    environment = {
        "TMPDIR": str(home.tmp),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _be_the_command(words, home, environment, write, before, after)
    os.close(write)
    return Child(pid, read)


def _be_the_command(
    words: Sequence[str],
    home: Home,
    environment: dict[str, str],
    pipe: int,
    before: Callable[[], object],
    after: Callable[[], object],
) -> None:
    """What the child does; it never returns."""
    code = 1
    try:
        os.chdir(home.path)
        os.environ.update(environment)
        tempfile.tempdir = None
        os.dup2(pipe, 1), os.dup2(pipe, 2), os.close(pipe)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0), os.close(nowhere)
        before()
        code = main(words)
        after()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def warm(modules: Sequence[str]) -> None:
    """Import modules that commands need, so that children find them in memory."""
    for name in modules:
        with suppress(Exception):
            importlib.import_module(name)


def _printed(pipe: int) -> str:
    """What is in a pipe now; whoever else holds its other end is not waited for."""
    parts = []
    while select.select([pipe], [], [], 0)[0] and (part := os.read(pipe, _PIPE)):
        parts.append(part)
    os.close(pipe)
    return b"".join(parts).decode(errors="replace")
