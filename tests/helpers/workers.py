"""Workers for tests of the executors; other processes find them here."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.runtime.errors import UserError
from cdal.runtime.execution.executor import Task, Tell


@dataclass(frozen=True)
class Squares:
    """Makes workers that square numbers, and leave a note of each try in a folder.

    Attributes:
        notes: folder for the notes, `NAME.PID.TRY`.
        deadly: names of the tasks with which a worker dies, and how often.
        wrong: names of the tasks with which a worker raises an error.
        seconds: how long each task takes.
        refuses: whether no worker can be made.
    """

    notes: Path
    deadly: tuple[tuple[str, int], ...] = ()
    wrong: tuple[str, ...] = ()
    seconds: float = 0.0
    refuses: bool = False

    def __call__(self) -> Any:
        if self.refuses:
            raise UserError("there is no model.")
        return self._work

    def tries(self, name: str) -> list[int]:
        """Processes that have tried a task."""
        return [int(path.name.split(".")[1]) for path in self.notes.glob(f"{name}.*")]

    def _work(self, task: Task, tell: Tell) -> int:
        tries = len(self.tries(task.name))
        (self.notes / f"{task.name}.{os.getpid()}.{tries}").touch()
        tell(f"at {task.name}")
        time.sleep(self.seconds)
        if tries < dict(self.deadly).get(task.name, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if task.name in self.wrong:
            raise ValueError("wrong")
        return task.content**2
