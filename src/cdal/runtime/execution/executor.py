"""Having many tasks done: the one interface of all engines, and the engine that is this process.

Tasks are paths and small values; what they make, the workers write into files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        name: name of the task in messages.
        content: what to do. It is sent to other processes, so it holds paths and no pixels.
        attempt: 2 if a worker died with the task before, else 1.
    """

    name: str
    content: Any = None
    attempt: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: the task.
        value: what the worker returned; `None` if there is a failure.
        failure: why there is no value; empty if there is one.
        deaths: workers that died with the task.
    """

    task: Task
    value: Any = None
    failure: str = ""
    deaths: int = 0


Tell = Callable[[Any], object]
"""Takes what a worker says of its task while it is at it: a share, or a line of text."""

Heard = Callable[[Task, Any], object]
"""Takes a task and what its worker says of it; an exception ends the work."""

Worker = Callable[[Task, Tell], Any]
"""Does a task and returns a small value. An exception is a failure of this task alone."""

MakeWorker = Callable[[], Worker]
"""Makes a worker, such as by loading a model; picklable where workers are other processes."""


class Executor(Protocol):
    """Something that has tasks done.

    Attributes:
        deaths: workers that have died so far; each was replaced.
    """

    deaths: int

    def run(
        self, tasks: Iterable[Task], make_worker: MakeWorker, heard: Heard | None = None
    ) -> Generator[Outcome, None, None]:
        """Have tasks done, and yield what becomes of each as soon as it is known.

        The tasks are taken from the iterable only as they are needed. If the caller stops, by
        closing the iterator or by an exception such as KeyboardInterrupt, the workers end.

        Args:
            tasks: the tasks, of any number.
            make_worker: makes a worker.
            heard: receives what workers say.

        Raises:
            UserError: no worker can be made.
        """
        ...


class Here:
    """One worker in this process. It does not outlive its own death, so there is none to count."""

    deaths = 0

    def run(
        self, tasks: Iterable[Task], make_worker: MakeWorker, heard: Heard | None = None
    ) -> Generator[Outcome, None, None]:
        """See `Executor.run`."""
        worker = make_worker()
        for task in tasks:

            def tell(said: Any, task: Task = task) -> None:
                try:
                    if heard is not None:
                        heard(task, said)
                except Exception as error:
                    raise _StoppedError from error

            try:
                outcome = Outcome(task, worker(task, tell))
            except Exception as error:  # no task may stop the others, only who listens may
                outcome = Outcome(task, failure=reason_of(error))
            except _StoppedError as stopped:
                assert stopped.__cause__ is not None
                raise stopped.__cause__ from None
            yield outcome


class _StoppedError(BaseException):
    """Who listens raised an error. No worker takes this for a failure of its task."""


def about_deaths(executor: Executor) -> str:
    """A line about workers that have died; empty if none has."""
    count = executor.deaths
    if not count:
        return ""
    if count == 1:
        return "1 worker has died (out of memory?) and was replaced; its task was tried once more."
    return (
        f"{count} workers have died (out of memory?) and were replaced; their tasks were tried "
        "once more."
    )


def reason_of(error: Exception) -> str:
    """An error as the reason of a failure, or of why there is no worker."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
