"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from cdal.runtime.errors import UserError
from cdal.runtime.execution.dealing import Kind, News, deal
from cdal.runtime.execution.executor import Heard, MakeWorker, Outcome, Task, reason_of
from cdal.runtime.execution.processes import environment, interrupt
from cdal.runtime.threads import thread_count

_GRACE = 60.0
"""Seconds that a worker has to end before it is killed."""


class LocalWorkers:
    """Processes of this machine, which share its processors and its GPUs.

    Args:
        workers: number of processes.
        gpus: GPUs to share out; 0 to change nothing.
        ahead: tasks that a worker holds at most. With 1 no task waits for a busy worker.

    Raises:
        UserError: fewer than one worker.
    """

    def __init__(self, workers: int, gpus: int = 0, ahead: int = 2) -> None:
        if workers < 1:
            raise UserError(f"the number of workers must be 1 or more; it is {workers}.")
        self.workers, self.gpus, self.ahead, self.deaths = workers, gpus, ahead, 0

    def run(
        self, tasks: Iterable[Task], make_worker: MakeWorker, heard: Heard | None = None
    ) -> Generator[Outcome, None, None]:
        """See `cdal.runtime.execution.executor.Executor.run`."""
        crew = _Processes(make_worker, [self._share(number) for number in range(self.workers)])
        yield from deal(tasks, crew, self.workers, self.ahead, heard, self)

    def _share(self, number: int) -> dict[str, str]:
        """Environment of a worker: its threads and its GPU."""
        share = {"OMP_NUM_THREADS": str(max(1, thread_count() // self.workers))}
        if self.gpus:
            given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            names = [name for name in given.split(",") if name] or list(map(str, range(self.gpus)))
            share["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]
        return share


class _Processes:
    """See `cdal.runtime.execution.dealing.Crew`."""

    def __init__(self, make_worker: MakeWorker, environments: Sequence[Mapping[str, str]]) -> None:
        self._make, self._environments = make_worker, environments
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, Any] = {}
        self._pipes: dict[int, Connection] = {}

    def start(self, number: int) -> None:
        """Start a process."""
        ours, theirs = self._context.Pipe()
        # A daemon ends with this process, should this process leave in a way nobody foresaw.
        process = self._context.Process(target=_work, args=(theirs, self._make), daemon=True)
        with environment(self._environments[number]):
            process.start()
        theirs.close()
        self._processes[number], self._pipes[number] = process, ours

    def give(self, number: int, task: Task) -> None:
        """Send a task."""
        with suppress(OSError):  # it has died, which `news` tells
            self._pipes[number].send(task)

    def news(self) -> Sequence[News]:
        """Receive one message from each process that has sent one, or has ended."""
        number_of: dict[Any, int] = {pipe: number for number, pipe in self._pipes.items()}
        # A process that has ended may have left messages; then its pipe comes before its end.
        ends = {process.sentinel: number for number, process in self._processes.items()}
        ready = wait([*number_of, *ends])
        numbers = {(number_of | ends)[one] for one in ready}
        return [self._news_of(number) for number in sorted(numbers)]

    def stop(self, finished: bool) -> None:
        """End the processes."""
        for number, process in self._processes.items():
            if finished:
                with suppress(OSError):
                    self._pipes[number].send(None)
            else:
                process.terminate()
        try:
            for process in self._processes.values():
                process.join(_GRACE)
        finally:
            for number, process in self._processes.items():
                if process.is_alive():
                    process.kill()
                    process.join()
                process.close()
                self._pipes[number].close()
            self._processes, self._pipes = {}, {}

    def _news_of(self, number: int) -> News:
        try:
            if self._pipes[number].poll(0 if self._processes[number].is_alive() else 0.1):
                return News(number, *self._pipes[number].recv())
        except (EOFError, OSError):
            pass
        process = self._processes.pop(number)
        process.kill()
        process.join()
        process.close()
        self._pipes.pop(number).close()
        return News(number, Kind.DIED)


def _work(pipe: Connection, make_worker: MakeWorker) -> None:
    """What a process does: tasks, until there are no more, or until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process decides
    signal.signal(signal.SIGTERM, interrupt)
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    try:
        threading.Thread(target=_receive, args=(pipe, tasks), daemon=True).start()
        try:
            worker = make_worker()
        except Exception as error:
            pipe.send((Kind.UNUSABLE, reason_of(error)))
            return
        pipe.send((Kind.READY,))
        while (task := tasks.get()) is not None:
            try:
                kind, value = Kind.DONE, worker(task, lambda said: pipe.send((Kind.SAID, said)))
            except Exception as error:  # no task may stop the others
                kind, value = Kind.FAILED, reason_of(error)
            pipe.send((kind, value))
    except (KeyboardInterrupt, BrokenPipeError):  # told to end, or nobody is left to tell
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _receive(pipe: Connection, tasks: queue.SimpleQueue[Task | None]) -> None:
    """Take tasks from the pipe at once, so that no sender waits; end with who sends them."""
    try:
        while (task := pipe.recv()) is not None:
            tasks.put(task)
        tasks.put(None)
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
