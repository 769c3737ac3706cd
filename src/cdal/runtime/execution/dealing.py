"""Dealing tasks out to workers that may die.

A task whose worker died is given to another worker once more. A task that two workers died with is
a failure. Tasks that had only been waiting for the worker are given to others as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Protocol

from cdal.runtime.errors import UserError
from cdal.runtime.execution.executor import Executor, Heard, Outcome, Task

TWICE = "the worker died twice with it (out of memory?)"
_DEATHS = 5
"""Workers in a row that may die before one can work."""


class Kind(Enum):
    """What there is to know of a worker."""

    READY = auto()
    SAID = auto()
    DONE = auto()
    FAILED = auto()
    UNUSABLE = auto()
    DIED = auto()


@dataclass(frozen=True)
class News:
    """Something that happened to a worker.

    Attributes:
        number: number of the worker.
        kind: what it was. DONE and FAILED are of the oldest task that it holds.
        value: what was said or returned, or the message of the failure.
    """

    number: int
    kind: Kind
    value: Any = None


class Crew(Protocol):
    """The workers of an engine; each does its tasks in the order in which it gets them."""

    def start(self, number: int) -> None:
        """Start a worker, the first time or in the place of one that died."""

    def give(self, number: int, task: Task) -> None:
        """Give a task to a worker, which may have died meanwhile."""

    def news(self) -> Sequence[News]:
        """What happened; waits until something does."""
        ...

    def stop(self, finished: bool) -> None:
        """End all workers: as soon as they can unless all is finished."""


def deal(
    tasks: Iterable[Task],
    crew: Crew,
    workers: int,
    ahead: int,
    heard: Heard | None,
    executor: Executor,
) -> Generator[Outcome, None, None]:
    """Have the tasks done by the workers of a crew, and yield what becomes of each.

    Args:
        tasks: the tasks; they are taken as they are needed.
        crew: the workers.
        workers: number of workers.
        ahead: tasks that a worker holds at most.
        heard: receives what workers say.
        executor: what has the tasks done; it counts the workers that die.

    Raises:
        UserError: a worker cannot be made, or workers die before they can work.
    """
    table, finished = _Table(tasks, crew, workers, ahead), False
    try:
        while table.fill():
            for news in crew.news():
                if news.kind is Kind.DIED:
                    executor.deaths += 1
                held = table.held[news.number]
                if news.kind is Kind.SAID and heard is not None and held:
                    heard(held[0], news.value)
                elif news.kind is Kind.DONE:
                    task = held.popleft()
                    yield Outcome(task, news.value, deaths=task.attempt - 1)
                elif news.kind is Kind.FAILED:
                    task = held.popleft()
                    yield Outcome(task, failure=news.value, deaths=task.attempt - 1)
                elif (lost := table.take(news)) is not None:
                    yield Outcome(lost, failure=TWICE, deaths=lost.attempt)
        finished = True
    finally:
        crew.stop(finished)


class _Table:
    """Which worker holds which tasks."""

    def __init__(self, tasks: Iterable[Task], crew: Crew, workers: int, ahead: int) -> None:
        self.held: list[deque[Task]] = [deque() for _ in range(workers)]
        self._tasks, self._again = iter(tasks), deque[Task]()
        self._crew, self._ahead = crew, ahead
        self._alive, self._ready = [False] * workers, [False] * workers
        self._deaths = 0

    def fill(self) -> bool:
        """Give tasks to workers that can hold more; returns whether there is something to do."""
        for depth in range(self._ahead):
            for number, held in enumerate(self.held):
                if len(held) > depth:
                    continue
                task = self._again.popleft() if self._again else next(self._tasks, None)
                if task is None:
                    return any(self.held)
                if not self._alive[number]:
                    self._crew.start(number)
                    self._alive[number] = True
                held.append(task)
                self._crew.give(number, task)
        return True

    def take(self, news: News) -> Task | None:
        """Take note of a beginning or an end; returns a task that is lost for good."""
        if news.kind is Kind.UNUSABLE:
            raise UserError(news.value)
        if news.kind is Kind.READY:
            self._ready[news.number], self._deaths = True, 0
        if news.kind is not Kind.DIED:
            return None
        held, was_ready = self.held[news.number], self._ready[news.number]
        self._alive[news.number] = self._ready[news.number] = False
        if not was_ready:
            self._deaths += 1
            if self._deaths >= _DEATHS:
                raise UserError(
                    f"{self._deaths} workers in a row died before they could work (out of "
                    "memory?). Give fewer --workers."
                )
        blamed = held.popleft() if held and was_ready else None
        self._again.extendleft(reversed(held))
        held.clear()
        if blamed is None or blamed.attempt > 1:
            return blamed
        self._again.appendleft(replace(blamed, attempt=2))
        return None
