"""Workers that segment an archive: each loads the model once, and tells little of each input.

Masks are byte for byte those of `cdal.inference.predict.predict`: every worker does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cdal.inference.case import CaseWorker, Made, Wanted
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.runtime.execution.executor import Task, Tell, Worker
from cdal.runtime.program import settle


@dataclass(frozen=True)
class LoadingWorkers:
    """Makes workers in other processes; see `cdal.runtime.execution.executor.MakeWorker`.

    Attributes:
        model: a model as for `load`.
        sampling: options of sampling.
        device: `auto`, `cpu`, `cuda` or `mps`.
        wanted: what is wanted of every input.
    """

    model: str
    sampling: Sampling
    device: str
    wanted: Wanted

    def __call__(self) -> Worker:
        """Load the model.

        Raises:
            UserError: as `load`.
        """
        settle()
        return brief_worker(load(self.model, self.sampling, self.device), self.wanted)


def brief_worker(predictor: Predictor, wanted: Wanted) -> Worker:
    """A worker that returns of each row what `brief` leaves."""
    work = CaseWorker(predictor, wanted)

    def worker(task: Task, tell: Tell) -> Made:
        made = work(task, tell)
        return replace(made, row=brief(made.row))

    return worker


def brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of an input on the terminal.

    Returns:
        `input`; `skipped` if a part of it was not segmented; if it was judged also `lowest`, the
        lowest expected Dice of its classes, and `outside`, `warnings` and `verdict` as far as they
        are known.
    """
    told = {name: row[name] for name in ("input", "skipped") if name in row}
    if quality := row.get("quality"):
        told["lowest"] = min(float(of_class["expected_dice"]) for of_class in quality.values())
        told |= {name: row[name] for name in ("outside", "warnings", "verdict") if name in row}
    return told
