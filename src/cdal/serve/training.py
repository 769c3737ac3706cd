"""Training a model further on reviewed cases, in a process of its own.

The new model is in the folder of results, below `trained/`. It takes no other's place: somebody has
to adopt it, and then it is one more model of the server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fastapi import HTTPException

from cdal.evaluation.before_after import kept_before_after
from cdal.runtime.errors import UserError
from cdal.runtime.execution.processes import run_verb
from cdal.segmenters.model_header import MODEL
from cdal.serve.answers import Answer
from cdal.serve.models import Models
from cdal.serve.names import safe_name
from cdal.serve.refusals import full, missing, unusable
from cdal.training.log import block_means, read_log

TRAINED = "trained"
"""Folder of the new models in a folder of results."""

_MOST_MINUTES = 24 * 60.0
_POINTS = 200
"""Most points of a learning curve."""

_SCORES = ("test", "validation")
"""Names of the mean Dice in a log; the first that is there is shown."""

_OTHERS = ("step", "discriminator", *_SCORES)
"""Names in a log that are not the loss of the network that predicts."""


@dataclass
class Run:
    """One training.

    Attributes:
        model: name of the model that it starts from.
        out: its folder.
        minutes: how long it may train.
        began: when it began, in seconds since 1970.
        ended: when it ended; `None` while it is running.
        state: what has become of it.
        message: why it failed.
        unwanted: set when it was told to end.
    """

    model: str
    out: Path
    minutes: float
    began: float = field(default_factory=time.time)
    ended: float | None = None
    state: Literal["running", "stopping", "done", "failed", "stopped"] = "running"
    message: str = ""
    unwanted: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether its process has not ended."""
        return self.ended is None


class Training:
    """The trainings of a server, one at a time.

    Args:
        models: models of the server.
        results: folder of results, with the reviews; `None` if the server has none.
        spoken: takes the server's folders out of a message.
    """

    def __init__(self, models: Models, results: Path | None, spoken: Callable[[str], str]) -> None:
        self._models, self._results, self._spoken = models, results, spoken
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = _nothing
        self.run: Run | None = None

    @property
    def possible(self) -> bool:
        """Whether the server has a model, and a folder for its reviews."""
        return self._results is not None and len(self._models) > 0

    @property
    def running(self) -> bool:
        """Whether one is running, or has been told to end and has not."""
        return self.run is not None and self.run.running

    def start(self, model: str, minutes: float, name: str) -> Run:
        """Train a model further on what was accepted or corrected.

        Args:
            model: name of the model.
            minutes: how long.
            name: name of the new model, empty for one after the model; a number is added if there
                is one of that name.

        Raises:
            HTTPException: 404, there is no such model; 422, it is not possible here; 429, one is
                running.
        """
        if self._results is None:
            raise unusable("This server has no folder of results, so it has no reviewed cases.")
        if not 0 < minutes <= _MOST_MINUTES:
            raise unusable(f"minutes must be more than 0, and {_MOST_MINUTES:g} at most.")
        if name and safe_name(name) != name:
            raise unusable(
                "name must be that of a folder to make: letters, digits, spaces and . ( ) + - _, "
                f"the first a letter, a digit or _. It is {name!r:.60}."
            )
        given = self._models.named(model).name
        with self._lock:
            if self.running:
                raise full("A model is being trained already. Stop it, or wait for its end.")
            run = Run(model, self._free(name or f"{model}-reviewed"), minutes)
            words = ["train", "folder", "--reviewed", "--data", str(self._results)]
            words += ["--from", given, "--out", str(run.out), "--minutes", f"{minutes:g}"]
            words += ["--device", self._models.device]
            self.run, self._stop = run, _nothing
            self._thread = threading.Thread(
                target=self._work, args=(run, words), name="cdal-training", daemon=True
            )
            self._thread.start()
        return run

    def stop(self) -> None:
        """Tell the training to end after its step, if one is running."""
        with self._lock:
            run = self.run
            if run is None or not run.running:
                return
            run.unwanted.set()
            run.state = "stopping"
        self._stop()

    def join(self) -> None:
        """Wait for the end of the training, after `stop`."""
        if self._thread is not None:
            self._thread.join()

    def adopt(self, anyway: bool = False) -> str:
        """Make the new model one more model of the server, and return its name.

        Args:
            anyway: whether also a model that is not known to be better is taken.

        Raises:
            HTTPException: 404, there is no new model; 422, it is not known to be better.
            UserError: it cannot be loaded.
        """
        run = self.run
        if run is None or run.state != "done" or not (run.out / MODEL).is_file():
            raise missing("A new model")
        compared = kept_before_after(run.out)
        if not anyway and (compared is None or not compared.better):
            raise unusable(
                "The new model is not known to be better on held-out reviewed cases. Review more "
                "cases; or ask for it all the same: anyway=true."
            )
        return self._models.add(run.out)

    def answer(self) -> Answer:
        """What has become of the last training."""
        run = self.run
        if run is None:
            return {"state": "idle", "curve": [], "message": "", "result": None, "name": ""}
        return {
            "state": run.state,
            "curve": curve_of(run.out),
            "message": run.message,
            "result": _result(run) if run.state == "done" else None,
            "name": run.out.name,
        }

    def _free(self, name: str) -> Path:
        """A folder for a new model that is not there."""
        assert self._results is not None  # asked before
        out, number = self._results / TRAINED / name, 2
        while out.exists():
            out, number = self._results / TRAINED / f"{name}-{number}", number + 1
        return out

    def _work(self, run: Run, words: Sequence[str]) -> None:
        def begun(stop: Callable[[], None]) -> None:
            self._stop = stop
            if run.unwanted.is_set():  # it was told to end before it had begun
                stop()

        try:
            reason = run_verb(words, lambda line: None, begun)
        except Exception as error:
            reason = f"the training cannot be started: {error}"
        with self._lock:
            stopped = run.unwanted.is_set()
            run.message = "" if stopped else self._spoken(reason)
            run.state = "done" if not reason else "stopped" if stopped else "failed"
            run.ended = time.time()


def _nothing() -> None:
    """Stop what has not begun."""


def _result(run: Run) -> Answer | None:
    """Both models on the held-out cases; `None` if there were too few to compare them."""
    try:
        compared = kept_before_after(run.out)
    except UserError:
        return None
    if compared is None:
        return None
    return {
        "model": run.out.name,
        "before": dict(compared.before),
        "after": dict(compared.after),
        "cases": compared.cases,
        "better": compared.better,
    }


def curve_of(out: Path) -> list[Answer]:
    """The learning curve in a run folder: means of the loss over parts of it, and every score.

    Lines that are not whole, as the log is being written, are left out.
    """
    try:
        rows = read_log(out)
    except (OSError, UserError):
        return []
    losses: list[tuple[int, float]] = []
    points: list[Answer] = []
    for row in rows:
        names = [name for name in row if "/" not in name and name not in _OTHERS]
        losses += [(row["step"], row[name]) for name in names[:1]]
        score = next((row[name] for name in _SCORES if name in row), None)
        if score is not None:
            points.append({"step": row["step"], "loss": None, "dice": score})
    for step, mean in block_means(losses, _POINTS):
        points.append({"step": step, "loss": mean, "dice": None})
    return sorted(points, key=lambda point: point["step"])


def need_running(training: Training) -> Run:
    """The training that is running.

    Raises:
        HTTPException: 404, none is.
    """
    run = training.run
    if run is None or not run.running:
        raise HTTPException(404, "No model is being trained.")
    return run
