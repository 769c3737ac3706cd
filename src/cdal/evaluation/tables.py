"""Tables of a comparison in Markdown, CSV, LaTeX and HTML, with its JSON file and its pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from cdal.evaluation.annotators import annotators_remark, annotators_table
from cdal.evaluation.cells import Rows, escaped, interval, measured, p_value
from cdal.evaluation.comparison import Comparison
from cdal.evaluation.competitor import Competitor
from cdal.evaluation.figures import boxes, differences, slopes
from cdal.evaluation.metrics import DISTANCES, SCORES
from cdal.evaluation.page import Section, write_report
from cdal.evaluation.pictures import embed
from cdal.runtime.files import write_figure, write_text
from cdal.runtime.text import text_cell

COSTS = 6
"""Number of cost columns, the last ones of the table."""

MEASURES = {
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier",
    "aurc": "AURC, entropy",
    "aurc_spread": "AURC, spread",
    "auroc": "AUROC of errors, entropy",
    "auroc_spread": "AUROC of errors, spread",
    "dice_by_doubt": "Dice by entropy",
    "dice_by_doubt_spread": "Dice by spread",
}
"""Measures of uncertainty with their column headings, in the order of the columns."""

_ABOUT = (
    "ECE, NLL, Brier, AURC (area under the risk-coverage curve) and AUROC (of finding wrongly "
    "segmented voxels) are computed in a box around the true foreground; lower is better for all "
    "but AUROC. Uncertainty is the entropy of the mean probability, or the spread of the votes. "
    "'Dice by': Spearman's correlation over cases of the Dice with the summed uncertainty per "
    "voxel of the mask; -1 is perfect."
)


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write a comparison into a folder.

    The files are `comparison.md`, `.csv`, `.tex`, `.html` and `.json`, and `boxes.png`. With
    several systems, `differences.png` and `slopes.png` are added.

    Returns:
        Paths of the written files.
    """
    rows, notes = table(comparison), remarks(comparison)
    further = [
        (heading, note, part)
        for heading, note, part in (
            (
                "Several annotators",
                annotators_remark(comparison),
                annotators_table(comparison),
            ),
            ("Uncertainty", uncertainty_remark(comparison), uncertainty_table(comparison)),
        )
        if part
    ]
    parts = [(rows, notes), *[(part, [note]) for _, note, part in further]]
    texts = {
        "comparison.md": "\n".join(
            markdown(part) + "\n" + "".join(f"- {line}\n" for line in lines)
            for part, lines in parts
        ),
        "comparison.csv": numbers(comparison),
        "comparison.tex": latex(rows, notes),
        "comparison.json": json.dumps(comparison.to_dict(), indent=1) + "\n",
    }
    written = []
    for name, text in texts.items():
        write_text(out / name, text)
        written.append(out / name)
    pictures = {"boxes.png": boxes(comparison)}
    if comparison.against:
        pictures = {
            "differences.png": differences(comparison),
            **pictures,
            "slopes.png": slopes(comparison),
        }
    for name, figure in pictures.items():
        write_figure(out / name, figure)
        written.append(out / name)
    sections = [
        Section("Scores and costs", " ".join(notes), rows),
        *[Section(*one) for one in further],
        Section("Pictures", "", (), [embed(figure) for figure in pictures.values()]),
    ]
    return [
        *written,
        write_report(
            out / "comparison.html",
            f"{SCORES[comparison.score]}, {len(rows) - 1} systems",
            sections,
        ),
    ]


def table(comparison: Comparison) -> Rows:
    """The main table: scores, differences from the reference with p-values, and costs.

    Scores are in per cent, with 95 % intervals; distances are in their own unit.
    """
    score = comparison.score
    unit = f" ({comparison.protocol.get('unit', '')})" if score in DISTANCES else " (%)"
    heads = ["system", *[f"{SCORES[score]} {name}{unit}" for name in comparison.classes]]
    heads += [f"{SCORES[score]}, mean{unit}"] if len(comparison.classes) > 1 else []
    heads += [f"against {comparison.reference}", "p Wilcoxon", "p permutation"]
    heads += ["p t-test over folds"] if _several_folds(comparison) else []
    heads += ["parameters (M)", "GFLOP", "s an image", "training (min)", "steps", "memory (GiB)"]
    rows = [_row(comparison, competitor) for competitor in comparison.competitors]
    return [heads, *[row + [""] * (len(heads) - len(row)) for row in rows]]


def uncertainty_table(comparison: Comparison) -> Rows:
    """Measures of uncertainty, one row for each system that did not fail.

    Measures that no system has are left out. The table is empty if there are no measures at all.
    """
    by_name = {competitor.name: competitor.uncertainty() for competitor in comparison.finished}
    shown = [
        measure for measure in MEASURES if any(measure in measures for measures in by_name.values())
    ]
    rows = [["system", *[MEASURES[measure] for measure in shown]]]
    for name, measures in by_name.items():
        rows.append(
            [
                name,
                *[measured(*measures[measure]) if measure in measures else "" for measure in shown],
            ]
        )
    return rows if shown else []


def uncertainty_remark(comparison: Comparison) -> str:
    """Explanation of the numbers in `uncertainty_table`."""
    spread = (
        "After ±: standard deviation over trainings. "
        if len(comparison.finished[0].results) > 1
        else ""
    )
    return f"{spread}{_ABOUT}"


def remarks(comparison: Comparison) -> list[str]:
    """Notes on `table`: failures, missing scores, and how to read the numbers and the tests."""
    protocol, first, score = comparison.protocol, comparison.finished[0], comparison.score
    count, folds = (
        len(first.values(score)),
        list(dict.fromkeys(str(result.fold) for result in first.results)),
    )
    seeds = len({result.seed for result in first.results})
    part = f"all cases of {protocol['data']}"
    if protocol["split"] != "all":
        part = (
            f"{protocol['split']} part of fold {', '.join(folds)} of {protocol['folds']} "
            f"({protocol['partition']})"
        )
    notes = [
        f"{competitor.name} failed: {competitor.failure}"
        for competitor in comparison.competitors
        if competitor.failure
    ]
    if comparison.competitors[0].failure:
        notes.append(
            f"The first system failed; the others are compared with {comparison.reference}."
        )
    missing = {
        competitor.name: comparison.described[competitor.name][None][score].missing
        for competitor in comparison.finished
    }
    notes += [
        f"{name}: {cases} of {count} cases have no {SCORES[score]}, and are in no mean of it."
        for name, cases in missing.items()
        if cases
    ]
    notes += [
        f"{count} cases of {protocol['data']}: {part}, scored by {protocol['scoring']}.",
        "In brackets: 95 % bootstrap interval over cases."
        + (" After ±: standard deviation over folds." if _several_folds(comparison) else "")
        + (
            f" After ±±: standard deviation over {seeds} trainings with different seeds."
            if seeds > 1
            else ""
        ),
        f"Against {comparison.reference}: difference of the mean {SCORES[score]} over the classes. "
        "p: paired, two-sided, over cases, Holm-corrected for the number of systems. Cases are "
        "treated as independent. "
        + (
            "Each case counts by its mean over the trainings; chance between trainings shows in "
            "their standard deviation, not in p."
            if seeds > 1
            else "Each system was trained once per fold; chance between trainings is not included."
        ),
    ]
    if sum(len(result.scores) for result in first.results) > count * seeds:
        notes.append(
            "Several folds test the same cases: a case counts once, by its mean over these folds."
        )
    if _several_folds(comparison):
        notes.append(
            f"The t-test over {len(folds)} folds is the paper's. Its p is too small because the "
            "folds share training cases, and with so few folds it detects only large differences. "
            "It is not corrected."
        )
    return [
        *notes,
        "GFLOP: convolutions and matrix products for the first case, all votes and windows. "
        "Seconds per image: median. Memory: peak of the training process.",
    ]


def markdown(rows: Rows) -> str:
    """Format rows as a Markdown table."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def latex(rows: Rows, notes: Sequence[str]) -> str:
    """Format rows as a LaTeX table with booktabs; the notes become comments."""
    lines = [" & ".join(escaped(cell) for cell in row) + r" \\" for row in rows]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    columns = "l" + "r" * (len(rows[0]) - 1)
    return (
        "\n".join(
            [
                *[f"% {note}" for note in notes],
                rf"\begin{{tabular}}{{{columns}}}",
                *body,
                r"\end{tabular}",
            ]
        )
        + "\n"
    )


def numbers(comparison: Comparison) -> str:
    """All numbers in full precision as CSV, one row for each system, class and score."""
    text = io.StringIO()
    writer = csv.writer(text)
    costs = list(comparison.finished[0].cost())
    tests = ["difference", "wilcoxon", "permutation", "t_over_folds"]
    writer.writerow(
        [
            "system",
            "class",
            "score",
            "mean",
            "sd_over_folds",
            "sd_over_seeds",
            "low",
            "high",
            "missing",
            *tests,
            *costs,
            "failure",
        ]
    )
    for name, system in comparison.to_dict()["systems"].items():
        if "failure" in system:
            writer.writerow(
                [text_cell(name), *[""] * (8 + len(tests) + len(costs)), system["failure"]]
            )
            continue
        for kind, scores in [*system["classes"].items(), ("mean", system["mean"])]:
            for score, described in scores.items():
                tested = scores is system["mean"] and score == comparison.score
                against = system.get("against_reference", {}) if tested else {}
                statistics = [
                    described[column] for column in ("mean", "sd_over_folds", "sd_over_seeds")
                ]
                statistics += [*described["interval"], described["missing"]]
                writer.writerow(
                    [
                        text_cell(name),
                        text_cell(kind),
                        score,
                        *statistics,
                        *[against.get(test) for test in tests],
                        *system["cost"].values(),
                        "",
                    ]
                )
    return text.getvalue()


def _several_folds(comparison: Comparison) -> bool:
    return len({result.fold for result in comparison.finished[0].results}) > 1


def _row(comparison: Comparison, competitor: Competitor) -> list[str]:
    if competitor.failure:
        return [competitor.name, "failed"]
    scale = 1.0 if comparison.score in DISTANCES else 100.0
    kinds = [*comparison.classes, *([None] if len(comparison.classes) > 1 else [])]
    cells = [competitor.name]
    for kind in kinds:
        described = comparison.described[competitor.name][kind][comparison.score]
        spread = (
            ""
            if math.isnan(described.sd_over_folds)
            else f" ± {scale * described.sd_over_folds:.2f}"
        )
        spread += (
            ""
            if math.isnan(described.sd_over_seeds)
            else f" ±± {scale * described.sd_over_seeds:.2f}"
        )
        mean = "none" if math.isnan(described.mean) else f"{scale * described.mean:.2f}"
        cells.append(mean + spread + interval(described.interval, scale, ".2f"))
    against = comparison.against.get(competitor.name)
    folds = _several_folds(comparison)
    if against is None:
        cells += ["reference", "", "", *([""] if folds else [])]
    else:
        difference = (
            "none" if math.isnan(against.difference) else f"{scale * against.difference:+.2f}"
        )
        cells.append(difference + interval(against.interval, scale, "+.2f"))
        cells += [
            p_value(against.wilcoxon),
            p_value(against.permutation),
            *([p_value(against.t_over_folds)] if folds else []),
        ]
    formats: dict[str, Callable[[float], str]] = {
        "parameters": lambda count: f"{count / 1e6:.2f}",
        "gigaflops": lambda operations: f"{operations:.1f}",
        "seconds_per_image": lambda seconds: f"{seconds:.2f}",
        "training_minutes": lambda minutes: f"{minutes:.1f}",
        "training_steps": lambda steps: f"{steps:.0f}",
        "peak_memory_gib": lambda memory: f"{memory:.1f}",
    }
    return cells + [
        "" if value is None else formats[name](value) for name, value in competitor.cost().items()
    ]
