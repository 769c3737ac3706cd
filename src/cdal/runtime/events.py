"""What long work reports to whoever watches it: a progress bar, a log, a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """How far a task is.

    Attributes:
        task: `checking`, `reading`, `training`, `segmenting`, `scoring`, `preparing`, `measuring` or `running`.
        name: the case, file or part that this is about.
        done: how many of `total` are done; a fraction of one while it is being done.
        total: how many there are; `None` if that is not known.
        message: a line for people, if the numbers do not say all.
    """

    task: str
    name: str = ""
    done: float = 0.0
    total: float | None = None
    message: str = ""


Report = Callable[[Event], object]
"""Called with each event; what it returns is ignored, and what it raises ends the work."""


def silent(event: Event) -> None:
    """Report to nobody."""
