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
from cdal.runtime.cost import joined_cost, keep_cost, kept_cost
from cdal.runtime.devices import find_device
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.execution.processes import run_verb, terminated_is_interrupted
from cdal.runtime.files import sole_writer, write_json, write_text
from cdal.training.run_folder import MODEL

_TRUST = "--trust-own-network"
"""The models of a comparison are those that it has trained, with networks that the user named."""


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
    stage, message = "training", "" if job.trained else _train(job, data, device, say)
    if not message:
        words = ["evaluate", str(job.folder), "--data", str(data), "--device", device]
        words += ["--out", str(job.evaluation), *job.sampling.words(), _TRUST]
        stage, message = "evaluation", run_verb(words, say)
    if message:
        failure = {"segmenter": job.system, "fold": job.fold, "stage": stage, "message": message}
        write_json(job.failure, failure)
        say(f"failed in {stage}: {message}")


def _train(job: Job, data: Path, device: str, say: Callable[[str], object]) -> str:
    """Train a job, or put its members together; returns why that failed, or nothing."""
    if job.members:
        return _join(job, data, device, say)
    recipe = job.folder / "asked.yaml"
    write_text(recipe, to_yaml(job.recipe))
    words = ["train", str(recipe), "--data", str(data), "--device", device]
    return run_verb([*words, "--out", str(job.folder)], say)


def _join(job: Job, data: Path, device: str, say: Callable[[str], object]) -> str:
    """Put the models of an ensemble's members into one file; returns why that failed, or nothing.

    Members that no other job has trained are trained first.
    """
    for member in job.members:
        if member.trained:
            continue
        failed = member.failure.is_file()
        message = "it has failed" if failed else _train(member, data, device, say)
        if message:
            return f"{member.name}: {message}"
    folders = [member.folder for member in job.members]
    words = ["ensemble", *map(str, folders), "--out", str(job.folder / MODEL), _TRUST]
    message = run_verb(words, say)
    if not message:
        costs = {f"{folder.parent.name}/{folder.name}": kept_cost(folder) for folder in folders}
        keep_cost(job.folder, {**joined_cost(list(costs.values())), "members": costs})
    return message
