"""Cross-validation: train and evaluate systems on several folds with several seeds, then compare.

Every training and every evaluation runs in its own process, as `cdal train` or `cdal evaluate`. Its
peak memory is therefore its own. A process that fails, runs out of memory or is killed does not
affect the others; the comparison reports it as a failed system.
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
    """Run the missing trainings and evaluations, then compare the systems.

    Finished trainings and evaluations of earlier calls are kept.

    Args:
        systems: recipe of each system by name; the others are compared with the first.
        data: the checked data folder.
        out: folder for the comparison and for `SYSTEM/fold-K/`, which hold run and evaluation.
            Seeds other than the recipe's use `SYSTEM/fold-K-seed-S/`.
        folds: numbers of the folds; `None` for all folds of the partition.
        budget: training budget of every system, `5min`, `2h` or `500steps`; `None` for the recipe's
            own.
        seeds: random seeds of the trainings; `None` for the recipe's.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, in trainings, and a line for each step of the work.

    Raises:
        UserError: a fold, a seed or the budget is invalid, `out` holds a run of another recipe, or
            every system failed.
        KeyboardInterrupt: the user pressed Ctrl-C. The same call resumes the work.
    """
    out = Path(out)
    jobs = plan(systems, data, out, folds, budget, seeds)
    run_jobs(jobs, data, out, device, report)
    comparison = compare([job.result for job in jobs], names=list(systems))
    write_comparison(comparison, out)
    return comparison


def run_jobs(
    jobs: Sequence[Job], data: Check, out: Path, device: str = "auto", report: Report = silent
) -> None:
    """Run the missing trainings and evaluations; arguments and errors are those of `crossval`."""
    data.need_no_errors()
    find_device(device)
    with sole_writer(out), terminated_is_interrupted():
        for number, job in enumerate(jobs, start=1):
            state = "done already" if job.done else f"{number} of {len(jobs)}"

            def say(line: str, number: int = number, job: Job = job) -> None:
                report(Event("running", job.name, number - 1, len(jobs), line))

            say(state)
            if not job.done:
                run_job(job, data.folder.root, device, say)
            report(Event("running", job.name, number, len(jobs)))


def run_job(job: Job, data: Path, device: str, say: Callable[[str], object]) -> None:
    """Train a job if necessary and evaluate it; a failure is written into the job's folder."""
    job.failure.unlink(missing_ok=True)
    recipe = job.folder / "asked.yaml"
    write_text(recipe, to_yaml(job.recipe))
    common = ["--data", str(data), "--device", device]
    stages = {
        "training": ["train", str(recipe), *common, "--out", str(job.folder)],
        "evaluation": [
            "evaluate",
            str(job.folder),
            *common,
            "--out",
            str(job.evaluation),
            *job.sampling.words(),
        ],
    }
    for stage, words in stages.items():
        if stage == "training" and job.trained:
            continue
        message = run_verb(words, say)
        if message:
            failure = {
                "segmenter": job.system,
                "fold": job.fold,
                "stage": stage,
                "message": message,
            }
            write_json(job.failure, failure)
            say(f"failed in {stage}: {message}")
            return
