"""Several systems on several folds with several seeds: train and evaluate what is missing, one after the other, then compare.

Every training and every evaluation is a process of its own, `cdal train` and `cdal evaluate`. So its peak memory is its own, and
one that fails, runs out of memory or is killed leaves the others alone; it becomes a row of the comparison that says so.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdal.checkpoint import CHECKPOINT
from cdal.comparison import FAILURE, Comparison, compare
from cdal.comparison_report import write_comparison
from cdal.data.check import Check
from cdal.data.partition import fold_count
from cdal.devices import find_device
from cdal.errors import UserError
from cdal.evaluation import SUMMARY
from cdal.files import sole_writer, write_json, write_text
from cdal.recipe import Recipe, field_names, override, to_yaml
from cdal.recipes import with_segmenter
from cdal.run_folder import check_same_recipe, kept_cost

_BUDGET = re.compile(r"(\d+(?:\.\d+)?) ?(m|min|minutes?|h|hours?|steps?)")


@dataclass(frozen=True)
class Job:
    """One system on one fold with one seed.

    Attributes:
        system: its name.
        fold: k.
        recipe: resolved.
        folder: of the run.
        sampling: words for `cdal evaluate` that change how the trained model is sampled.
    """

    system: str
    fold: int
    recipe: Recipe
    folder: Path
    sampling: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        seed = self.recipe.training.seed
        return f"{self.system}, fold {self.fold}" + (f", seed {seed}" if seed else "")

    @property
    def evaluation(self) -> Path:
        """Where its scores go."""
        return self.folder / "-".join(["evaluation", *(word.strip("-") for word in self.sampling)])

    @property
    def trained(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(kept_cost(self.folder))

    @property
    def done(self) -> bool:
        """Whether it is scored already."""
        return (self.evaluation / SUMMARY).is_file() and not self.failure.is_file()

    @property
    def state(self) -> str:
        """`scored`; or what came last of what is still to do: `failed`, `trained`, `begun`, `missing`."""
        states = {
            "scored": self.done,
            "failed": self.failure.is_file(),
            "trained": self.trained,
            "begun": (self.folder / CHECKPOINT).is_file(),
        }
        return next((state for state, holds in states.items() if holds), "missing")

    @property
    def failure(self) -> Path:
        """Where it is said why it failed. Other ways to sample a trained model fail by themselves."""
        return (self.evaluation if self.sampling else self.folder) / FAILURE

    @property
    def result(self) -> str:
        """What `compare` takes: the name, and where the scores are or why there are none."""
        return f"{self.system}={self.evaluation if self.done else self.failure}"


def systems_of(recipe: Recipe, segmenters: Sequence[str], fields: Sequence[str] = ()) -> dict[str, Recipe]:
    """The recipe with each of these segmenters, by name.

    Args:
        recipe: with its own segmenter, which the others replace.
        segmenters: names (`cdal.systems`).
        fields: of the recipe, changed for every system, as on the command line; those of the segmenter where a system has them.

    Raises:
        UserError: a segmenter or a field is not known.
    """
    _need_each_once("segmenter", segmenters)
    changed = {name: with_segmenter(recipe, name) for name in segmenters}
    given = _pairs(fields)
    _need_known(given, changed)
    return {
        name: override(one, [word for field, words in given.items() if _has(one, field) for word in words])
        for name, one in changed.items()
    }


def crossval(
    systems: Mapping[str, Recipe],
    data: Check,
    out: Path | str,
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    on_line: Callable[[str], object] = lambda _: None,
) -> Comparison:
    """Run what is missing and compare; what is there from an earlier call is kept.

    Args:
        systems: a recipe by name; the first is the one that the others are held against.
        data: the data folder, checked.
        out: holds `SYSTEM/fold-K/` with run and evaluation (for other seeds than the recipe's `SYSTEM/fold-K-seed-S/`), and the
            comparison.
        folds: all of the partition if not given.
        budget: the same for every system, `5min`, `2h` or `500steps`; the recipe's own if not given.
        seeds: of every random draw of a training; the recipe's if not given.
        device: `auto`, `cpu`, `cuda` or `mps`.
        on_line: called with each line of progress.

    Raises:
        UserError: a name, a fold or the budget is not known; `out` holds a run of another recipe; or every system failed.
        KeyboardInterrupt: Ctrl-C came; the same call goes on from there.
    """
    out = Path(out)
    jobs = plan(systems, data, out, folds, budget, seeds)
    run_jobs(jobs, data, out, device, on_line)
    comparison = compare([job.result for job in jobs], names=list(systems))
    write_comparison(comparison, out)
    return comparison


def plan(
    systems: Mapping[str, Recipe],
    data: Check,
    out: Path,
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Job]:
    """What there is to do, fold by fold of each system; arguments and errors as those of `crossval`."""
    first = next(iter(systems.values()))
    count = fold_count(data.folder, first.data)
    chosen = range(count) if folds is None else folds
    if wrong := [fold for fold in chosen if not 0 <= fold < count]:
        raise UserError(f"no fold {wrong[0]}. The partition {first.data.partition} has the folds 0 to {count - 1}.")
    _need_each_once("fold", chosen)
    seeds = [first.training.seed] if seeds is None else seeds
    _need_each_once("seed", seeds)
    changes = read_budget(budget)
    jobs = []
    for name, recipe in systems.items():
        for fold in chosen:
            for seed in seeds:
                training = replace(recipe.training, **changes, seed=seed)
                seeded = "" if seed == recipe.training.seed else f"-seed-{seed}"
                one = replace(recipe, data=replace(recipe.data, fold=fold), training=training)
                job = Job(name, fold, one, out / name.replace(" ", "-") / f"fold-{fold}{seeded}")
                check_same_recipe(job.folder, job.recipe)
                jobs.append(job)
    return jobs


def run_jobs(
    jobs: Sequence[Job], data: Check, out: Path, device: str = "auto", on_line: Callable[[str], object] = lambda _: None
) -> None:
    """Train and evaluate what is missing; arguments and errors as those of `crossval`."""
    data.need_no_errors()
    find_device(device)
    with sole_writer(out), _terminated_is_interrupted():
        for number, job in enumerate(jobs, start=1):
            state = "done already" if job.done else f"{number} of {len(jobs)}"
            on_line(f"[{job.name}] {state}")
            if not job.done:
                _run(job, data.folder.root, device, on_line)


def _need_each_once(what: str, named: Sequence[str] | Sequence[int]) -> None:
    if not named:
        raise UserError(f"no {what} is named. Name one or more, with commas.")
    if twice := [one for one, count in Counter(named).items() if count > 1]:
        raise UserError(f"the {what} {twice[0]} is named twice.")


def _pairs(fields: Sequence[str]) -> dict[str, list[str]]:
    """The words of each field, `{"segmenter.votes": ["--segmenter.votes", "3"]}`."""
    pairs: dict[str, list[str]] = {}
    name = ""
    for word in fields:
        if word.startswith("--"):
            name = word[2:].split("=", 1)[0]
            pairs[name] = []
        pairs[name].append(word)
    return pairs


def _has(recipe: Recipe, field: str) -> bool:
    """Whether a field is one of this recipe; misspelt ones of data and training are, for `override` to refuse them."""
    return not field.startswith("segmenter.") or field in field_names(recipe)


def _need_known(fields: Iterable[str], recipes: Mapping[str, Recipe]) -> None:
    for field in fields:
        if not any(_has(recipe, field) for recipe in recipes.values()):
            known = sorted({name for recipe in recipes.values() for name in field_names(recipe) if name.startswith("segmenter.")})
            raise UserError(f"none of {', '.join(recipes)} has the field {field}. They have: {', '.join(known)}.")


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
    """Train, where that is not done, and evaluate; where one fails, say so in the job's folder."""
    job.failure.unlink(missing_ok=True)
    asked = job.folder / "asked.yaml"
    write_text(asked, to_yaml(job.recipe))
    where = ["--data", str(data), "--device", device]
    stages = {
        "training": ["train", str(asked), *where, "--out", str(job.folder)],
        "evaluation": ["evaluate", str(job.folder), *where, "--out", str(job.evaluation), *job.sampling],
    }
    for stage, words in stages.items():
        if stage == "training" and job.trained:
            continue
        message = _process(words, lambda line: on_line(f"[{job.name}] {line}"))
        if message:
            failure = {"segmenter": job.system, "fold": job.fold, "stage": stage, "message": message}
            write_json(job.failure, failure)
            on_line(f"[{job.name}] failed in {stage}: {message}")
            return


def _process(words: Sequence[str], on_line: Callable[[str], object]) -> str:
    """Run a verb; returns why it failed, or nothing."""
    command = [sys.executable, "-m", "cdal", *words]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # modules are found where this process finds them, not where it stands
    lines: list[str] = []
    # In a session of its own, so that Ctrl-C reaches it once: from here.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None  # asked for
        try:
            for line in map(str.rstrip, process.stderr):
                on_line(line)
                lines.append(line)
        except KeyboardInterrupt:
            process.terminate()  # a training ends its step and writes a checkpoint
            process.wait()
            raise
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = ", most likely for want of memory" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    return _last_words([line for line in lines if line.strip()], f"cdal {words[0]}: ")


def _last_words(lines: Sequence[str], prefix: str) -> str:
    """What a process said of its failure: our own message, or the last line of a traceback."""
    ours = [i for i, line in enumerate(lines) if line.startswith(prefix)]
    said = " ".join(lines[ours[-1] :]).removeprefix(prefix) if ours else "".join(lines[-1:])
    return said or "the process failed and said nothing"


@contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
