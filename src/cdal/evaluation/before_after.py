"""Two models on the same cases: did a training make the first one better?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case
from cdal.evaluation.agreement import majority
from cdal.evaluation.metrics import dice_by_class
from cdal.inference.load import load
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import write_json

_FEW = 10
"""Fewer cases than these may differ by chance more than a training changes them."""

BEFORE_AFTER = "before_after.json"
"""Name of the file in a run folder."""


@dataclass(frozen=True)
class BeforeAfter:
    """Scores of two models on the same cases.

    Attributes:
        cases: number of cases.
        before: Dice of the first model, mean over the cases, by class.
        after: that of the second model.
        better: whether the mean over the classes has risen. That is no test of significance.

    Raises:
        ValueError: a value is of another type, or the models have scores of different classes.
    """

    cases: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    better: bool

    def __post_init__(self) -> None:
        if type(self.cases) is not int or type(self.better) is not bool:
            raise ValueError(f"cases is {self.cases!r:.40}, better is {self.better!r:.40}")
        for scores in (self.before, self.after):
            if not isinstance(scores, Mapping) or set(scores) != set(self.before):
                raise ValueError(f"expected scores of the same classes; they are {scores!r:.40}")
            for value in scores.values():
                if type(value) not in (int, float) or not 0 <= value <= 1:
                    raise ValueError(f"expected Dice from 0 to 1; one is {value!r:.40}")

    def lines(self) -> list[str]:
        """The scores in words, a line for each class and one for the outcome."""
        rows = [
            f"{name}: Dice {before:.4f} before, {self.after[name]:.4f} after "
            f"({self.after[name] - before:+.4f})"
            for name, before in self.before.items()
        ]
        verdict = "better" if self.better else "not better"
        one = self.cases == 1
        cases = "1 held-out case" if one else f"{self.cases} held-out cases"
        few = "; so few prove little" if self.cases < _FEW else ""
        return [*rows, f"{verdict} on {cases}, which no training has seen{few}"]


def before_after(
    before: Path,
    after: Path,
    folder: DataFolder,
    cases: Sequence[CaseFiles],
    device: str = "auto",
    report: Report = silent,
) -> BeforeAfter:
    """Score two models on the same cases, on the images' own grids, as their recipes sample them.

    Args:
        before: path of the first model.
        after: path of the second model, of the same classes.
        folder: data folder of the cases.
        cases: cases that neither model has seen in training.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, in cases.

    Raises:
        UserError: a model or a case cannot be used.
    """
    scores = [dice_by_case(model, folder, cases, device, report) for model in (before, after)]
    first, second = (
        {name: float(np.mean([row[name] for row in rows])) for name in folder.classes[1:]}
        for rows in scores
    )
    better = sum(second.values()) > sum(first.values())
    return BeforeAfter(len(cases), first, second, better)


def dice_by_case(
    model: Path,
    folder: DataFolder,
    cases: Sequence[CaseFiles],
    device: str = "auto",
    report: Report = silent,
) -> list[dict[str, float]]:
    """Dice of each class but the background, for each case; arguments as `before_after`."""
    predictor, rows = load(model, device=device), []
    for number, case in enumerate(cases, start=1):
        image, labels = read_case(case, folder)
        mask = predictor.predict(image, case.name).mask
        truth = majority(np.stack([label.array[0] for label in labels]), len(folder.classes))
        rows.append(dice_by_class(mask, truth, folder.classes))
        report(Event("scoring", case.name, number, len(cases)))
    return rows


def keep_before_after(out: Path, compared: BeforeAfter) -> None:
    """Write the scores into a run folder."""
    write_json(out / BEFORE_AFTER, asdict(compared))


def kept_before_after(out: Path) -> BeforeAfter | None:
    """The scores in a run folder; `None` if there are none.

    Raises:
        UserError: the file is damaged.
    """
    path = out / BEFORE_AFTER
    if not path.is_file():
        return None
    try:
        return BeforeAfter(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}. Delete it to compare again.") from error
