"""Timing: by a clock that the test sets, and with things whose cost is known."""

from __future__ import annotations

import pytest
import torch

from cdal.experiments.speed import timing
from cdal.experiments.speed.timing import gigaflops, interleaved, peak, seconds


class Clock:
    """Stands still unless something takes its time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_things_are_called_in_turn_and_their_medians_given(clock: Clock):
    """The first two calls of each warm up and do not count."""
    lengths = {"short": [19.0, 9.0, 1.0, 5.0, 3.0], "long": [15.0, 0.0, 8.0, 9.0, 2.0]}
    calls: list[str] = []

    def work(name: str) -> None:
        clock.now += lengths[name][calls.count(name)]
        calls.append(name)

    taken = interleaved({name: lambda name=name: work(name) for name in lengths}, rounds=3)
    assert calls == ["short"] * 2 + ["long"] * 2 + ["short", "long"] * 3
    assert taken == pytest.approx({"short": 3.0, "long": 8.0})


def test_what_takes_too_long_is_called_once(clock: Clock):
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        clock.now += 21.0

    assert interleaved({"slow": slow}, rounds=5) == {"slow": 21.0}
    assert len(calls) == 1


def test_operations_and_memory_of_what_is_known(clock: Clock):
    a, b = torch.randn(64, 32), torch.randn(32, 16)
    assert gigaflops(lambda: a @ b) == pytest.approx(2 * 64 * 32 * 16 / 1e9)
    found = peak(lambda: torch.ones(2**26).sum())  # a quarter of a GiB
    assert found is None or found == pytest.approx(0.25, abs=0.1)

    def quarter() -> None:
        clock.now += 0.25

    assert seconds(quarter) == 0.25
