"""Every block of the shell and of Python in start/ and guides/ runs, or its page says why not."""

from __future__ import annotations

import asyncio
import logging
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import uvicorn

from cdal.experiments import crossval, demo
from cdal.serve import run as serving
from helpers.blocks import DOCS, PAGES, Reader, blocks, overview, reading
from helpers.verbs import run_here

FAST = (
    "guides/annotate-next.md",
    "guides/large-images.md",
    "guides/page.md",
    "start/dicom-study.md",
    "start/install.md",
)
"""Pages whose blocks take a moment; the others train or use a shipped model, and are slow."""


def pages() -> list[object]:
    """The pages that have something to run."""
    names = [
        page.relative_to(DOCS).as_posix()
        for page in PAGES
        if any(block.language != "text" and not block.reason for block in blocks(page))
    ]
    return [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow], id=n) for n in names]


@pytest.fixture
def reader(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Reader:
    """A reader of a page. A server answers once, and trainings are in this process."""
    monkeypatch.setattr(crossval, "run_verb", run_here)
    monkeypatch.setattr(demo, "COUNT", 16)
    monkeypatch.setattr(serving, "_log_to_terminal", lambda: None)
    monkeypatch.setattr(uvicorn.Server, "run", _answers_once(uvicorn.Server.run))
    monkeypatch.delenv("CDAL_TOKEN", raising=False)
    with reading(tmp_path, request.param) as reader:
        yield reader


def _answers_once(run: Callable[..., None]) -> Callable[..., None]:
    """In place of the server of `cdal serve`, which runs until it is ended."""

    def answer(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        if type(server) is uvicorn.Server:  # the one that curl asks
            run(server, sockets)
            return
        assert asyncio.run(_health(server.config.app)) in (200, 401)

    return answer


async def _health(app: object) -> int:
    """The status of a server that listens nowhere."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return (await client.get("/v1/health")).status_code


@pytest.mark.parametrize("reader", pages(), indirect=True)
def test_all_blocks_of_a_page_run(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger("cdal"), "disabled", True)
    page = DOCS / reader.page
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the command line does
        for block in blocks(page):
            if not block.reason and block.language != "text":
                reader.run(block)


def test_the_documentation_says_what_is_not_run(record_property: Callable[[str, str], None]):
    lines = overview()
    record_property("blocks", lines[0])
    assert len(lines) == 1 + sum(
        page.read_text(encoding="utf-8").count("<!-- not run: ") for page in PAGES
    ), "a mark stands where no block follows"
