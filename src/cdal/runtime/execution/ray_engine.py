"""Workers of a Ray cluster: one that is started here, or one that is running.

Ray (https://docs.ray.io, Moritz et al., OSDI 2018) finds the places and starts the processes. It
answers calls at least once, so what has to be there exactly once is left to the files.
"""

from __future__ import annotations

import math
import os
import secrets
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cdal.runtime.errors import UserError
from cdal.runtime.execution.dealing import Kind, News, deal
from cdal.runtime.execution.executor import Heard, MakeWorker, Outcome, Task, reason_of
from cdal.runtime.threads import thread_count

_STORE = 100 * 2**20
"""Bytes of Ray's object store. No result passes through it."""

_LONGEST = 32
"""Longest path of a folder in which there is room for the paths of Ray's sockets."""


class RayWorkers:
    """Actors of a Ray cluster. What a worker says of a task while it is at it is not heard.

    Args:
        workers: number of actors; `None` for one for each GPU of the cluster, else for each of its
            processors.
        address: address of a running cluster, or `auto`; `None` to start one here.
        with_gpus: whether actors use GPUs, if the cluster has some.
        ahead: tasks that an actor holds at most.

    Raises:
        UserError: Ray is not installed, or fewer than one worker.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        with_gpus: bool = True,
        ahead: int = 2,
    ) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"the number of workers must be 1 or more; it is {workers}.")
        if address is None and "RAY_AUTH_MODE" not in os.environ:
            # A cluster of our own is open to those who know this secret. Ray would write one into
            # the home folder; without one, any user of the machine could run code in it.
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the hospital
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "the engine ray needs Ray, which is not installed: pip install 'cdal[ray]'."
            ) from error
        self._ray: Any = ray
        self.workers, self.address = workers, address
        self.with_gpus, self.ahead, self.deaths = with_gpus, ahead, 0

    def run(
        self, tasks: Iterable[Task], make_worker: MakeWorker, heard: Heard | None = None
    ) -> Generator[Outcome, None, None]:
        """See `cdal.runtime.execution.executor.Executor.run`."""
        with self._cluster():
            resources = self._ray.cluster_resources()
            gpus = int(resources.get("GPU", 0)) if self.with_gpus else 0
            processors = int(resources.get("CPU", 1)) or 1
            workers = self.workers or gpus or processors
            places = {
                "num_cpus": _share(processors, workers),
                "num_gpus": _share(gpus, workers) if gpus else 0,
            }
            crew = _Actors(self._ray, make_worker, places)
            yield from deal(tasks, crew, workers, self.ahead, heard, self)

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """Connect to the cluster, or start one for as long as it is needed."""
        if self._ray.is_initialized():
            yield
            return
        if self.address is not None:
            with self._connected(f"be reached at {self.address}", address=self.address):
                yield
            return
        # Ray's logs and sockets would stay in the temporary folder of the machine.
        with tempfile.TemporaryDirectory(
            prefix="ray-", dir=_short(), ignore_cleanup_errors=True
        ) as folder:
            options = {"num_cpus": thread_count(), "object_store_memory": _STORE}
            with self._connected(
                "be started here", **options, include_dashboard=False, _temp_dir=folder
            ):
                yield

    @contextmanager
    def _connected(self, where: str, **options: Any) -> Iterator[None]:
        try:
            self._ray.init(**options, logging_level="ERROR", log_to_driver=False)
        except Exception as error:  # Ray raises whatever its parts raise
            raise UserError(
                f"no Ray cluster can {where}: {reason_of(error)}. Is it running (ray status), and "
                "of the same version of Ray and Python?"
            ) from error
        try:
            yield
        finally:
            self._ray.shutdown()


def _short() -> str:
    """Where Ray may have its folder: the paths of its sockets have at most 107 characters."""
    usual = tempfile.gettempdir()
    return os.environ.get("RAY_TMPDIR") or (usual if len(usual) <= _LONGEST else "/tmp")  # noqa: S108 (a new folder in it)


def _share(total: int, workers: int) -> float:
    """Part of something for each worker; Ray takes whole numbers, or fractions below 1."""
    return total // workers if total >= workers else math.floor(1000 * total / workers) / 1000


class _Actor:
    """An actor: the worker of one process."""

    def __init__(self, make_worker: MakeWorker, folder: str) -> None:
        with suppress(OSError):  # paths may be relative to the folder of who sends them
            os.chdir(folder)
        self._worker, self._problem = None, ""
        try:
            self._worker = make_worker()
        except Exception as error:
            self._problem = reason_of(error)

    def ready(self) -> tuple[Kind, Any]:
        """Whether there is a worker."""
        return (Kind.UNUSABLE, self._problem) if self._problem else (Kind.READY, None)

    def do(self, task: Task) -> tuple[Kind, Any]:
        """Do a task."""
        try:
            assert self._worker is not None  # else it is given none
            return Kind.DONE, self._worker(task, lambda said: None)
        except Exception as error:  # no task may stop the others
            return Kind.FAILED, reason_of(error)


class _Actors:
    """See `cdal.runtime.execution.dealing.Crew`."""

    def __init__(self, ray: Any, make_worker: MakeWorker, places: dict[str, float]) -> None:
        self._ray, self._make = ray, make_worker
        # Ray neither starts an actor again nor repeats a task: only who deals knows which task.
        self._class = ray.remote(max_restarts=0, max_task_retries=0, **places)(_Actor)
        self._actors: dict[int, Any] = {}
        self._answers: dict[int, deque[Any]] = {}

    def start(self, number: int) -> None:
        """Start an actor."""
        actor = self._class.remote(self._make, str(Path.cwd()))
        self._actors[number], self._answers[number] = actor, deque([actor.ready.remote()])

    def give(self, number: int, task: Task) -> None:
        """Call an actor."""
        self._answers[number].append(self._actors[number].do.remote(task))

    def news(self) -> Sequence[News]:
        """The next answer of each actor that has answered, or has died."""
        first = {answers[0]: number for number, answers in self._answers.items() if answers}
        ready, _ = self._ray.wait(list(first), num_returns=1)
        return [self._news_of(first[answer], answer) for answer in ready]

    def stop(self, finished: bool) -> None:
        """End the actors."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors, self._answers = {}, {}

    def _news_of(self, number: int, answer: Any) -> News:
        try:
            kind, value = self._ray.get(answer)
        except self._ray.exceptions.RayError:
            self._ray.kill(self._actors.pop(number))
            del self._answers[number]
            return News(number, Kind.DIED)
        self._answers[number].popleft()
        return News(number, kind, value)
