"""Several systems on several folds with several seeds: train and evaluate what is missing, one after the other, then compare.

Every training and every evaluation is a process of its own, `cdal train` and `cdal evaluate`. So its peak memory is its own, and
one that fails, runs out of memory or is killed leaves the others alone; it becomes a row of the comparison that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cdal.datasets.check import Check
from cdal.evaluation.comparison import Comparison, compare
from cdal.evaluation.tables import write_comparison
from cdal.experiments.jobs import Job, plan
from cdal.recipes.recipe import Recipe, to_yaml
from cdal.runtime.devices import find_device
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.execution.processes import run_verb, terminated_is_interrupted
from cdal.runtime.files import sole_writer, write_json, write_text


def crossval(
    systems: Mapping[str, Recipe],
    data: Check,
    out: Path | str,
    folds: Sequence[int] | None = None,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    report: Report = silent,
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
        report: gets the progress, in trainings, with a line for each thing that happens.

    Raises:
        UserError: a name, a fold or the budget is not known; `out` holds a run of another recipe; or every system failed.
        KeyboardInterrupt: Ctrl-C came; the same call goes on from there.
    """
    out = Path(out)
    jobs = plan(systems, data, out, folds, budget, seeds)
    run_jobs(jobs, data, out, device, report)
    comparison = compare([job.result for job in jobs], names=list(systems))
    write_comparison(comparison, out)
    return comparison


def run_jobs(jobs: Sequence[Job], data: Check, out: Path, device: str = "auto", report: Report = silent) -> None:
    """Train and evaluate what is missing; arguments and errors as those of `crossval`."""
    data.need_no_errors()
    find_device(device)
    with sole_writer(out), terminated_is_interrupted():
        for number, job in enumerate(jobs, start=1):
            state = "done already" if job.done else f"{number} of {len(jobs)}"

            def say(line: str, number: int = number, job: Job = job) -> None:
                report(Event("running", job.name, number - 1, len(jobs), line))

            say(state)
            if not job.done:
                _run(job, data.folder.root, device, say)
            report(Event("running", job.name, number, len(jobs)))


def _run(job: Job, data: Path, device: str, say: Callable[[str], object]) -> None:
    """Train, where that is not done, and evaluate; where one fails, say so in the job's folder."""
    job.failure.unlink(missing_ok=True)
    asked = job.folder / "asked.yaml"
    write_text(asked, to_yaml(job.recipe))
    where = ["--data", str(data), "--device", device]
    stages = {
        "training": ["train", str(asked), *where, "--out", str(job.folder)],
        "evaluation": ["evaluate", str(job.folder), *where, "--out", str(job.evaluation), *job.sampling.words()],
    }
    for stage, words in stages.items():
        if stage == "training" and job.trained:
            continue
        message = run_verb(words, say)
        if message:
            failure = {"segmenter": job.system, "fold": job.fold, "stage": stage, "message": message}
            write_json(job.failure, failure)
            say(f"failed in {stage}: {message}")
            return
