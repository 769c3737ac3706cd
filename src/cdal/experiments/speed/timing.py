"""Timing of several functions in turn, so that disturbances of the machine affect all of them."""

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
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    longest: float = 20.0,
    device: str = "cpu",
) -> dict[str, float]:
    """Median time of each function in seconds; the functions are called in turn in every round.

    Args:
        functions: functions by name.
        rounds: number of timed calls of each function.
        longest: limit in seconds; a function whose first call takes longer is not called again.
        device: device that the functions compute on. On a GPU, the time includes the work that a
            call leaves in its queue.
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
    """Time of one call in seconds; on a GPU, the time between two CUDA events."""
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
    """Number of operations of one call, in units of 10^9.

    Convolutions and matrix products are counted; a multiply-add counts as two operations.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 1e9


def peak(function: Callable[[], object], device: str = "cpu") -> float | None:
    """Memory in GiB that one call needs beyond what was held before it.

    `None` if the system does not report it.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    clear = Path("/proc/self/clear_refs")
    if not clear.exists() or not give_back() or (resident := held("VmRSS")) is None:
        return None
    clear.write_text("5")  # resets the high-water mark
    function()
    highest = held("VmHWM")
    return None if highest is None else highest - resident


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Context in which PyTorch uses `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
