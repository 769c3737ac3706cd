"""The page of a simulation of annotating, with its picture, numbers and scores of every case."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cdal.evaluation.tables import Rows, markdown
from cdal.experiments.curves import MEASURES, Curves, Difference
from cdal.experiments.jobs import Job
from cdal.experiments.pool import Pool
from cdal.experiments.ranking import RANDOM, Rounds
from cdal.recipes.recipe import words_of
from cdal.runtime.cost import kept_cost
from cdal.runtime.devices import find_device
from cdal.runtime.files import write_figure, write_json, write_text
from cdal.runtime.machine import about
from cdal.runtime.text import text_cell

_COLOURS = ("#888888", "#1f77b4", "#e76f51", "#2a9d8f")

_METHOD = (
    "Every way of picking starts with the same random cases of a seed. Validation cases fit "
    "the temperature, and do not count as annotated. The area is the mean height of "
    "the curve over the logarithm of the number of cases. Intervals: 95 %, paired bootstrap over "
    "seeds and over the patients of the test cases; of so few seeds they are rather too narrow."
)


def write_curves(
    experiment: Rounds,
    curves: Curves,
    pool: Pool,
    jobs: Sequence[Job],
    device: str,
    out: Path,
) -> None:
    """Write `NAME.md`, `NAME.json`, `NAME.csv` and `NAME.png`."""
    machine, name = about(find_device(device).type), experiment.name
    costs = [kept_cost(job.folder) for job in jobs]
    hours = sum(cost.get("seconds", 0.0) for cost in costs) / 3600
    versions = sorted({cost["cdal"] for cost in costs if "cdal" in cost})
    protocol = (
        f"Recipe `{experiment.recipe.name}`, {_budget(experiment)} of training in every round. "
        f"{len(pool.parts['train'])} cases to pick from, {len(pool.parts['validation'])} for "
        f"validation, {len(curves.cases)} of {len(set(curves.patients))} patients for the test. "
        f"{_METHOD} {machine['processor']}, threads: {machine['threads']}, {machine['device']}, "
        f"PyTorch {machine['torch']}, cDAL {', '.join(versions)}; {hours:.1f} hours of training in "
        "all."
    )
    command = _command(experiment)
    parts = [
        f"# {name}",
        f"**Question.** {experiment.question}",
        f"    {command}",
        f"**Protocol.** {protocol}",
        *(f"**{line}**" for line in answers(curves)),
        f"![The curves]({name}.png)",
    ]
    for measure, rows in curve_tables(curves).items():
        parts += [f"## {MEASURES[measure]} of the test cases", markdown(rows).rstrip()]
    if curves.failed:
        parts += ["## Left out", "\n".join(f"- {line}" for line in curves.failed)]
    parts.append(f"The same as [JSON]({name}.json); the scores of every case as [CSV]({name}.csv).")
    numbers = {
        "question": experiment.question,
        "command": command,
        "how": protocol,
        "machine": machine,
        "training_hours": hours,
        **curves.to_dict(),
    }
    write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
    write_json(out / f"{name}.json", numbers)
    write_text(out / f"{name}.csv", _every_case(curves))
    write_figure(out / f"{name}.png", curve_figure(curves))


def answers(curves: Curves) -> list[str]:
    """What came out, a line for each measure and way of picking; one seed decides nothing."""
    lines = []
    for measure in curves.values:
        for arm in curves.arms[1:]:
            found = curves.difference(measure, arm)
            sign = -1 if measure == "ged" else 1
            better = sum(sign * difference > 0 for difference in found.by_seed)
            low, high = sorted(sign * end for end in found.interval)
            verdict = "better" if low > 0 else "worse" if high < 0 else "neither better nor worse"
            against = f"{arm} is {verdict} than {RANDOM}"
            if len(curves.seeds) == 1:
                against = f"{arm} against {RANDOM}, one seed"
            lines.append(
                f"{MEASURES[measure]}: {against}; area {_difference(found)}, better in {better} of "
                f"{len(curves.seeds)} seeds."
            )
    return lines


def curve_tables(curves: Curves) -> dict[str, Rows]:
    """A table for each measure: a row for each round, and one for the area."""
    tables = {}
    for measure, by_arm in curves.values.items():
        others = curves.arms[1:]
        rows = [["annotated cases", *curves.arms, *(f"{arm} - {RANDOM}" for arm in others)]]
        for at, size in enumerate(curves.sizes):
            cells = [_mean_sd(by_arm[arm][:, at].mean(axis=1)) for arm in curves.arms]
            apart = [_difference(curves.difference(measure, arm, size)) for arm in others]
            rows.append([str(size), *cells, *(apart if at else [""] * len(others))])
        cells = [_mean_sd(curves.area(measure, arm).mean(axis=1)) for arm in curves.arms]
        apart = [_difference(curves.difference(measure, arm)) for arm in others]
        rows.append(["area", *cells, *apart])
        tables[measure] = rows
    return tables


def curve_figure(curves: Curves) -> Figure:
    """Draw the mean over the seeds of each way of picking, and every seed as a thin line."""
    figure = Figure(figsize=(4.5 * len(curves.values), 3.4), layout="constrained")
    axes = figure.subplots(1, len(curves.values), squeeze=False)[0]
    for axis, (measure, by_arm) in zip(axes, curves.values.items(), strict=True):
        for number, arm in enumerate(curves.arms):
            colour = _COLOURS[number % len(_COLOURS)]
            by_seed = by_arm[arm].mean(axis=2)
            axis.plot(curves.sizes, by_seed.T, color=colour, alpha=0.3, linewidth=0.8)
            axis.plot(curves.sizes, by_seed.mean(axis=0), "o-", color=colour, label=arm)
        axis.set_xscale("log", base=2)
        axis.set_xticks(curves.sizes, [str(size) for size in curves.sizes])
        axis.minorticks_off()
        axis.set_xlabel("annotated cases")
        axis.set_ylabel(f"{MEASURES[measure]} of the test cases")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    return figure


def _budget(experiment: Rounds) -> str:
    training = experiment.base().training
    return (
        f"{training.steps} steps" if training.minutes is None else f"{training.minutes:g} minutes"
    )


def _command(experiment: Rounds) -> str:
    """The command that repeats the page."""
    words = [
        "cdal experiment",
        experiment.name,
        "--data DATA --out RUNS",
        f"--seeds {','.join(map(str, experiment.seeds))}",
        *([f"--budget {experiment.budget}"] if experiment.budget else []),
        f"--arms {','.join(experiment.arms) or RANDOM}",
        *(shlex.quote(field) for field in words_of(experiment.fields)),
    ]
    return " ".join(words)


def _mean_sd(values: np.ndarray) -> str:
    """Mean over the seeds, with their standard deviation if there are several."""
    if len(values) < 2:
        return f"{values.mean():.4f}"
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"


def _difference(found: Difference) -> str:
    low, high = found.interval
    return f"{found.mean:+.4f} ({low:+.4f} to {high:+.4f})"


def _every_case(curves: Curves) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", "picks", "annotated", "case", *curves.values])
    for s, seed in enumerate(curves.seeds):
        for arm in curves.arms:
            for r, size in enumerate(curves.sizes):
                for c, case in enumerate(curves.cases):
                    scores = [f"{by_arm[arm][s, r, c]:.4f}" for by_arm in curves.values.values()]
                    writer.writerow([seed, arm, size, text_cell(case), *scores])
    return text.getvalue()
