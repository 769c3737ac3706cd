"""The server as a process of its own: it begins, and ends without leaving anything."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from cdal.cli import main
from cdal.runtime.errors import UserError
from cdal.serve.run import listening, sole_server
from cdal.serve.settings import Serving
from helpers.files import save_nifti


@contextmanager
def process(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its address."""
    command = [sys.executable, "-m", "cdal", *words, "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONSAFEPATH": "1"}
    (tmp_path / "tmp").mkdir(exist_ok=True)
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert " at http" in line, (line, server.stderr)
            yield server, line.split()[-1]
        finally:
            server.kill()


def left(tmp_path: Path) -> list[str]:
    """Names of what servers have left in the temporary folder of the system."""
    return [path.name for path in (tmp_path / "tmp").glob("cdal-serve-*/*")]


@pytest.mark.slow
def test_a_server_begins_answers_and_ends(tmp_path: Path, volume_model: Path):
    image = save_nifti(tmp_path / "Jane_Doe.nii.gz", np.random.default_rng(0).random((16, 16, 16)))
    with process(tmp_path, "serve", str(volume_model), "--votes", "2") as (server, address):
        with image.open("rb") as file:
            reply = httpx.post(f"{address}v1/predict/volume", files={"file": file}, timeout=60)
        assert reply.status_code == 200
        with image.open("rb") as file:
            httpx.post(f"{address}v1/predict/volume?wait=false", files={"file": file}, timeout=60)
        assert len(left(tmp_path)) == 1
        server.send_signal(signal.SIGKILL)
        server.wait()
    assert len(left(tmp_path)) == 1  # what was killed leaves its folder
    with process(tmp_path, "serve", str(volume_model)) as (server, address):
        assert len(left(tmp_path)) == 1  # that of this one: the other is deleted
        assert httpx.get(f"{address}v1/cases?name=Jane_Doe").json()["cases"] == []
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        assert server.stderr is not None
        log = server.stderr.read()
    assert left(tmp_path) == []
    assert "GET /v1/cases 200" in log and "Jane" not in log


def test_what_cannot_be_served_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for words, told in (
        (["serve", "no-such-model"], "no model no-such-model"),
        (["serve", "--host", "0.0.0.0"], "--token"),
        (["serve", "--data", str(tmp_path / "none")], "no such folder"),
        (["view", str(tmp_path / "none")], "there is no such folder"),
        (["view", str(tmp_path)], "predictions.json"),
    ):
        assert main([*words, "--port", "0"]) == 2
        assert told in capsys.readouterr().err


def test_a_second_server_on_the_same_results_is_refused(tmp_path: Path):
    results = tmp_path / "results"
    held = "import sys; from pathlib import Path; from cdal.serve.run import sole_server\n"
    held += f"with sole_server(Path({str(results)!r}), True):\n print('has it', flush=True)"
    command = [sys.executable, "-c", f"{held}\n sys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as first:
        assert first.stdout is not None and first.stdout.readline() == "has it\n"
        for makes in (True, False):
            refused = pytest.raises(UserError, match=f"another server .* {results}")
            with refused, sole_server(results, makes):
                pass
        with sole_server(tmp_path / "other", True), sole_server(None, True):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
    with sole_server(results, True):
        pass
    with sole_server(tmp_path / "none", False):
        assert not (tmp_path / "none").exists()


def test_a_port_that_is_taken_is_told():
    with listening(Serving(port=0)) as first:
        first.listen()
        with pytest.raises(UserError, match="--port"):
            listening(Serving(port=first.getsockname()[1]))


def test_replies_are_not_held_back_for_an_acknowledgement():
    """Whose 40 ms no small reply should wait; asyncio sees to it for sockets of this protocol."""
    with listening(Serving(port=0)) as one:
        assert one.proto == socket.IPPROTO_TCP


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    from cdal.serve.run import serve

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"pip install 'cdal\[serve\]'"):
        serve(Serving(port=0))
