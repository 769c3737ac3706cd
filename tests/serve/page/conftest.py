"""One browser and one server for the tests of a file; without Chromium they are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.page import Watched, chromium, results
from helpers.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results; its images are beside it."""
    return results(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that shows the results, and has no model."""
    with served(tmp_path_factory.mktemp("server"), results=folder) as server:
        yield server.address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Watched]:
    """The page, on which nothing may go wrong."""
    context = browser.new_context(viewport={"width": 1000, "height": 600})
    watched = Watched(context.new_page(), address)
    yield watched
    context.close()
    watched.check()
