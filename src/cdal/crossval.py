"""Several systems on several folds: train and evaluate what is missing, one after the other, then compare.

Every training and every evaluation is a process of its own, `cdal train` and `cdal evaluate`. So its peak memory is its own, and
one that fails, runs out of memory or is killed leaves the others alone; it becomes a row of the comparison that says so.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdal.comparison import FAILURE, SUMMARY, Comparison, compare
from cdal.comparison_report import write_comparison
from cdal.data.check import Check
from cdal.data.partition import fold_count
from cdal.errors import UserError
from cdal.files import replacing, sole_writer
from cdal.recipe import Recipe, override, to_yaml
from cdal.recipes import with_segmenter
from cdal.run_folder import check_same_recipe

_BUDGET = re.compile(r"(\d+(?:\.\d+)?) ?(m|min|minutes?|h|hours?|steps?)")
_LAST_WORDS = 3
"""Lines of a process that failed which are kept as the reason."""


@dataclass(frozen=True)
class Job:
    """One system on one fold.

    Attributes:
        segmenter: name of the system.
        fold: k.
        recipe: resolved.
        folder: of the run; the evaluation lies in `evaluation` below it.
    """

    segmenter: str
    fold: int
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.segmenter}, fold {self.fold}"

    @property
    def evaluation(self) -> Path:
        """Where its scores go."""
        return self.folder / "evaluation"

    @property
    def done(self) -> bool:
        """Whether it is scored already."""
        return (self.evaluation / SUMMARY).is_file()


def crossval(
    recipe: Recipe,
    data: Check,
    out: Path | str,
    segmenters: Sequence[str],
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    fields: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
    on_line: Callable[[str], object] = lambda _: None,
) -> Comparison:
    """Run what is missing and compare; what is there from an earlier call is kept.

    Args:
        recipe: with its own segmenter, which the others replace.
        data: the data folder, checked.
        out: holds `SEGMENTER/fold-K/` with run and evaluation, and the comparison.
        segmenters: names (`cdal.systems`); the first is the one that the others are held against.
        folds: all of the recipe's partition if not given.
        budget: the same for every system, `5min`, `2h` or `500steps`; the recipe's own if not given.
        fields: of the recipe, changed for every system, as on the command line.
        seed: of every random draw; the recipe's if not given.
        device: `auto`, `cpu`, `cuda` or `mps`.
        on_line: called with each line of progress.

    Raises:
        UserError: a name, a fold or the budget is not known; `out` holds a run of another recipe; or every system failed.
        KeyboardInterrupt: Ctrl-C came; the same call goes on from there.
    """
    out = Path(out)
    data.need_no_errors()
    jobs = plan(recipe, data, out, segmenters, folds, budget, fields, seed)
    with sole_writer(out):
        for number, job in enumerate(jobs, start=1):
            state = "done already" if job.done else f"{number} of {len(jobs)}"
            on_line(f"[{job.name}] {state}")
            if not job.done:
                _run(job, data.folder.root, device, on_line)
        folders = [job.folder for job in jobs]
        comparison = compare(folders, names=[job.segmenter for job in jobs])
        write_comparison(comparison, out)
    return comparison


def plan(
    recipe: Recipe,
    data: Check,
    out: Path,
    segmenters: Sequence[str],
    folds: Sequence[int] | None,
    budget: str | None,
    fields: Sequence[str],
    seed: int | None,
) -> list[Job]:
    """What there is to do, fold by fold of each system; arguments and errors as those of `crossval`."""
    count = fold_count(data.folder, recipe.data)
    chosen = range(count) if folds is None else folds
    if wrong := [fold for fold in chosen if not 0 <= fold < count]:
        raise UserError(f"no fold {wrong[0]}. The partition {recipe.data.partition} has the folds 0 to {count - 1}.")
    if twice := [name for name in segmenters if list(segmenters).count(name) > 1]:
        raise UserError(f"the segmenter {twice[0]} is named twice.")
    jobs = []
    for name in segmenters:
        changed = override(with_segmenter(recipe, name), fields)
        changes = read_budget(budget) | ({} if seed is None else {"seed": seed})
        training = replace(changed.training, **changes)
        for fold in chosen:
            resolved = replace(changed, data=replace(changed.data, fold=fold), training=training)
            job = Job(name, fold, resolved, out / name / f"fold-{fold}")
            check_same_recipe(job.folder, resolved)
            jobs.append(job)
    return jobs


def read_budget(budget: str | None) -> dict[str, Any]:
    """The fields of `TrainingSettings` that `5min`, `2h` or `500steps` stand for.

    Raises:
        UserError: it is none of these.
    """
    if budget is None:
        return {}
    found = _BUDGET.fullmatch(budget.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise UserError(f"a budget is minutes, hours or steps: 5min, 2h, 500steps; it is {budget!r}.")
    number, unit = float(found[1]), found[2][0]
    if unit == "s":
        return {"steps": int(number), "minutes": None}
    return {"steps": None, "minutes": number * (60 if unit == "h" else 1)}


def _run(job: Job, data: Path, device: str, on_line: Callable[[str], object]) -> None:
    """Train and evaluate; where one fails, say so in the job's folder."""
    (job.folder / FAILURE).unlink(missing_ok=True)
    asked = job.folder / "asked.yaml"
    with replacing(asked) as temporary:
        temporary.write_text(to_yaml(job.recipe), encoding="utf-8")
    where = ["--data", str(data), "--device", device]
    for stage, words in (
        ("training", ["train", str(asked), *where, "--out", str(job.folder)]),
        ("evaluation", ["evaluate", str(job.folder), *where, "--out", str(job.evaluation)]),
    ):
        message = _process(words, lambda line: on_line(f"[{job.name}] {line}"))
        if message:
            failure = {"segmenter": job.segmenter, "fold": job.fold, "stage": stage, "message": message}
            with replacing(job.folder / FAILURE) as temporary:
                temporary.write_text(json.dumps(failure, indent=1) + "\n", encoding="utf-8")
            on_line(f"[{job.name}] failed in {stage}: {message}")
            return


def _process(words: Sequence[str], on_line: Callable[[str], object]) -> str:
    """Run a verb; returns why it failed, or nothing."""
    command = [sys.executable, "-m", "cdal", *words]
    last: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None  # asked for
        try:
            for line in map(str.rstrip, process.stderr):
                on_line(line)
                last = [*last, line][-_LAST_WORDS:]
        except KeyboardInterrupt:  # the process got it too, and is writing its checkpoint
            process.wait()
            raise
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = ", most likely for want of memory" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode == 0:
        return ""
    return " ".join(last).removeprefix(f"cdal {words[0]}: ") or f"exit code {process.returncode}"
