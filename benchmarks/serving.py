"""A server as a process of its own, for the benchmarks of `cdal serve`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdal.runtime.execution.processes import tied


@contextmanager
def server(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its address. It ends with this process, whatever ends that.

    Args:
        folder: folder for its log, its uploads, and results without another folder.
        words: models and options of `cdal serve`.
    """
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, **tied(), "TMPDIR": str(folder / "tmp"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "cdal", "serve", *words, "--port", "0"]
    if "--out" not in words:
        command += ["--out", str(folder / "none")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        (folder / "log.txt").open("a") as log,
        subprocess.Popen(command, env=environment, stderr=log, text=True, **pipes) as process,
    ):
        try:
            assert process.stdout is not None  # because of PIPE
            line = process.stdout.readline()
            if " at http" not in line:
                raise SystemExit((folder / "log.txt").read_text().strip())
            yield process, line.split()[-1]
        finally:
            process.kill()
