"""Threads where a container has less than the processors it sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdal.runtime import threads


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_by_affinity", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "")


@pytest.mark.parametrize(
    ("quota", "count"),
    [("200000 100000\n", 2), ("250000 100000", 3), ("50000 100000", 1), ("max 100000", 8), ("1600000 100000", 8)],
)
def test_a_quota_limits_the_threads(quota: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")
    assert threads.thread_count() == 8  # no container
    (tmp_path / "cpu.max").write_text(quota)
    assert threads.thread_count() == count
    threads.respect_quota()
    assert os.environ["OMP_NUM_THREADS"] == ("" if count == 8 else str(count))


def test_what_the_user_asks_for_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text("200000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    threads.respect_quota()
    assert threads.thread_count() == 5
    assert os.environ["OMP_NUM_THREADS"] == "5"
