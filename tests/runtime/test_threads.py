"""Threads if a container has less than the processors it sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdal.runtime.threads import respect_quota, thread_count

QUOTA = "/sys/fs/cgroup/cpu.max"
"""Where Linux says what a container may take."""


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "")


def give_quota(quota: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system's file say this; or let there be no such file."""
    read = Path.read_text

    def text(path: Path, *how: object, **more: object) -> str:
        if str(path) != QUOTA:
            return read(path, *how, **more)
        if quota is None:
            raise FileNotFoundError(QUOTA)
        return quota

    monkeypatch.setattr(Path, "read_text", text)


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        (None, 8),  # no container
        ("200000 100000\n", 2),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("max 100000", 8),
        ("1600000 100000", 8),
    ],
)
def test_a_quota_limits_the_threads(quota: str | None, count: int, monkeypatch: pytest.MonkeyPatch):
    give_quota(quota, monkeypatch)
    assert thread_count() == count
    respect_quota()
    assert os.environ["OMP_NUM_THREADS"] == ("" if count == 8 else str(count))


def test_what_the_user_asks_for_holds(monkeypatch: pytest.MonkeyPatch):
    give_quota("200000 100000", monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    respect_quota()
    assert thread_count() == 5
    assert os.environ["OMP_NUM_THREADS"] == "5"
