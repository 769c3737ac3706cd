"""Computations: one at a time, in the order in which they were asked for.

A thread of its own computes. Others wait in a queue that is never longer than the settings say.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal

from fastapi import HTTPException

from cdal.inference.case import explained
from cdal.runtime.events import Event
from cdal.serve.refusals import closing, full, missing, too_slow

State = Literal["queued", "running", "done", "failed", "cancelled"]

_MOST_KEPT = 1000
"""Finished jobs that can still be asked for."""


class Cancelled(Exception):  # noqa: N818 (not an error)
    """Nobody wants the result any more."""


class Job:
    """A computation that a client has asked for.

    Attributes:
        id: its name.
        case: id of the case that it is about.
        state: what has become of it.
        share: finished share, 0 to 1.
        message: for a failed job, why; otherwise what it does now.
        seconds: seconds that it has been running.
        ended: future of its result, for those who wait for it.
    """

    def __init__(
        self,
        case: str,
        work: Callable[[Job], Any],
        seconds: float,
        spoken: Callable[[str], str] = str,
    ) -> None:
        self.id, self.case, self._spoken = secrets.token_urlsafe(12), case, spoken
        self.state: State = "queued"
        self.share, self.message = 0.0, ""
        self.ended: Future[Any] = Future()
        self._work, self._most = work, seconds
        self._began = self._took = 0.0
        self._stop: Exception | None = None
        self._unwanted = threading.Event()

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def seconds(self) -> float:
        """Seconds that it has been running."""
        if self.state == "running":
            return time.monotonic() - self._began
        return self._took

    def cancel(self) -> None:
        """Ask for its end: at once if it waits, at the next step if it is running."""
        self._unwanted.set()

    def report(self, event: Event) -> None:
        """Take note of progress, and `check`."""
        if event.total:
            self.share = min(1.0, event.done / event.total)
        self.message = event.message or event.task
        self.check()

    def check(self) -> None:
        """End the work, by an exception, if it is unwanted or takes too long."""
        if self._unwanted.is_set():
            self._stop = Cancelled()
        elif time.monotonic() - self._began > self._most:
            self._stop = too_slow(
                f"The computation took more than {self._most:g} s. Ask for fewer votes, crop the "
                "image, or start the server with more --seconds."
            )
        if self._stop is not None:
            raise self._stop

    def run(self) -> None:
        """Compute. Nothing is raised: the future has the result or the error."""
        self._began, self.state = time.monotonic(), "running"
        try:
            self.check()
            result = self._work(self)
        except Exception as error:  # the server goes on, whatever the error is
            error = self._stop or error  # what ends a prediction is told as the image's fault
            self.end("cancelled" if isinstance(error, Cancelled) else "failed", error)
        else:
            self.end("done", None, result)

    def end(self, state: State, error: Exception | None, result: Any = None) -> None:
        """Note what has become of it, and tell those who wait."""
        self._took = time.monotonic() - self._began if self._began else 0.0
        self.message = self._spoken(_explained(error)) if state == "failed" and error else ""
        self.share = 1.0 if state == "done" else self.share
        self.state = state
        self._work = _nothing  # forgets what it holds
        if error is None:
            self.ended.set_result(result)
        else:
            self.ended.set_exception(error)


def _nothing(job: Job) -> None:
    raise Cancelled


def _explained(error: Exception) -> str:
    return str(error.detail) if isinstance(error, HTTPException) else explained("The image", error)


class Jobs:
    """The queue, and the thread that works it off.

    Args:
        waiting: most jobs that may wait.
        seconds: most seconds of a job.
        spoken: takes the server's folders out of a message.
    """

    def __init__(self, waiting: int, seconds: float, spoken: Callable[[str], str] = str) -> None:
        self._most, self._seconds, self._spoken = waiting, seconds, spoken
        self._queue: list[Job] = []
        self._jobs: dict[str, Job] = {}
        self._last: dict[str, Job] = {}
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work_off, name="cdal-jobs", daemon=True)
        self._thread.start()

    def submit(self, case: str, work: Callable[[Job], Any]) -> Job:
        """Put a computation into the queue.

        Args:
            case: id of the case that it is about.
            work: computes and returns the result; it gets the job, which takes note of its
                progress and ends it if need be.

        Raises:
            HTTPException: 429, too many wait; 503, the server is ending.
        """
        with self._changed:
            if self._closed:
                raise closing()
            if len(self._queue) >= self._most:
                raise full(f"{self._most} computations wait already. Ask again later.")
            job = Job(case, work, self._seconds, self._spoken)
            self._queue.append(job)
            self._jobs[job.id] = self._last[case] = job
            done = [known for known in self._jobs.values() if known.finished]
            for old in done[: max(0, len(done) - _MOST_KEPT)]:
                self._drop(old)
            self._changed.notify_all()
        return job

    def named(self, name: str) -> Job:
        """The job with this id.

        Raises:
            HTTPException: 404, there is none.
        """
        try:
            return self._jobs[name]
        except KeyError:
            raise missing("A job of this id") from None

    def position(self, job: Job) -> int:
        """Jobs that are computed before this one; 0 for one that is running or finished."""
        with self._changed:
            ahead = 1 if self._running is not None else 0
            return self._queue.index(job) + ahead if job in self._queue else 0

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return len(self._queue)

    @property
    def running(self) -> bool:
        """Whether a job is running."""
        return self._running is not None

    def cancel(self, job: Job) -> None:
        """End a job: one that waits at once, one that is running at its next step."""
        job.cancel()
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
                job.end("cancelled", Cancelled())

    def of_case(self, case: str) -> list[Job]:
        """The jobs of a case that are not finished."""
        return [job for job in list(self._jobs.values()) if job.case == case and not job.finished]

    def forget(self, case: str) -> None:
        """Cancel and forget the jobs of a case."""
        for job in self.of_case(case):
            self.cancel(job)
        for job in [job for job in list(self._jobs.values()) if job.case == case]:
            self._drop(job)

    def _drop(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if self._last.get(job.case) is job:
            del self._last[job.case]

    def failure(self, case: str) -> str:
        """Why the last job of a case has failed; empty if it has not."""
        job = self._last.get(case)
        return job.message if job is not None and job.state == "failed" else ""

    def close(self) -> None:
        """Let the running job end; those who wait are told that the server ends."""
        with self._changed:
            self._closed = True
            left, self._queue = self._queue, []
            self._changed.notify_all()
        for job in left:
            job.end("failed", closing())

    def join(self) -> None:
        """Wait until the running job has ended, after `close`."""
        self._thread.join()

    def _work_off(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                job = self._running = self._queue.pop(0)
            try:
                job.run()
            finally:
                with self._changed:
                    self._running = None
