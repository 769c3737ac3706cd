"""Progress events that long tasks report to a progress bar, a log or a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """The progress of a task.

    Attributes:
        task: name of the task: `checking`, `reading`, `training`, `calibrating`, `segmenting`,
            `scoring`, `preparing`, `converting`, `drawing`, `measuring`, `ranking` or `running`.
        name: name of the current case, file or part.
        done: number of finished items. Its fraction is the finished share of the current item.
        total: number of all items; `None` if it is not known.
        message: line of text for the user, if the numbers do not say everything.
    """

    task: str
    name: str = ""
    done: float = 0.0
    total: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Pace(Event):
    """The progress of many items of one kind.

    Attributes:
        rate: items per second, of late.
        failed: number of items that have failed.
        seconds_left: estimated number of remaining seconds; `None` if that is not known.
    """

    rate: float = 0.0
    failed: int = 0
    seconds_left: float | None = None


Report = Callable[[Event], object]
"""Function called with each event. Its return value is ignored; an exception ends the task."""


def silent(event: Event) -> None:
    """Ignore the event."""
