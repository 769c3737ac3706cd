"""Seconds of several things in one run, so that what disturbs the machine disturbs them all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cdal.runtime.memory import give_back, held

Row = dict[str, Any]

_WARM_UPS = 2


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, longest: float = 20.0, device: str = "cpu"
) -> dict[str, float]:
    """The median seconds of each function, called in turn, round after round.

    Args:
        functions: by name.
        rounds: calls of each that count.
        longest: seconds; what takes more in its first call is not called again.
        device: on which they compute; what they left to it is waited for.
    """
    measured: dict[str, list[float]] = {}
    for name, function in functions.items():
        first = seconds(function, device)
        measured[name] = [first] if first > longest else []
        if first <= longest:
            for _ in range(_WARM_UPS - 1):
                function()
    for _ in range(rounds):
        for name, function in functions.items():
            if not (measured[name] and measured[name][0] > longest):
                measured[name].append(seconds(function, device))
    return {name: statistics.median(values) for name, values in measured.items()}


def seconds(function: Callable[[], object], device: str = "cpu") -> float:
    """Of one call; on a GPU between two of its events."""
    if device == "cuda":
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        function()
        ended.record()
        torch.cuda.synchronize()
        return began.elapsed_time(ended) / 1000
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def gigaflops(function: Callable[[], object]) -> float:
    """Operations of one call in units of 10^9: convolutions and matrix products, a multiply-add as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 1e9


def peak(function: Callable[[], object], device: str = "cpu") -> float | None:
    """GiB that one call needed beyond what was held before it; none where the system does not tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    clear = Path("/proc/self/clear_refs")
    if not clear.exists() or not give_back() or (before_held := held("VmRSS")) is None:
        return None
    clear.write_text("5")  # the high-water mark begins anew
    function()
    most = held("VmHWM")
    return None if most is None else most - before_held


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for PyTorch, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
