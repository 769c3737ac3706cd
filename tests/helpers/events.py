"""Reports of long work, listened to."""

from __future__ import annotations

from collections.abc import Callable

from cdal.runtime.events import Event, Report
from cdal.training.progress import Step


def steps_only(watch: Callable[[Step], object]) -> Report:
    """A report that is called with the steps of a training and nothing else."""

    def report(event: Event) -> None:
        if isinstance(event, Step):
            watch(event)

    return report


def lines_into(lines: list[str]) -> Report:
    """A report that keeps the lines for people, after the name of what they are about."""
    return lambda event: lines.append(f"[{event.name}] {event.message}") if event.message else None
