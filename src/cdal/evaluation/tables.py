"""A comparison as tables (Markdown, CSV, LaTeX, HTML) and as JSON; its pictures beside them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from cdal.evaluation.comparison import Comparison, Competitor
from cdal.evaluation.figures import boxes, differences, slopes
from cdal.evaluation.metrics import DISTANCES, SCORES
from cdal.evaluation.page import Section, write_report
from cdal.evaluation.pictures import embed
from cdal.runtime.files import write_figure, write_text

COSTS = 6
"""The last columns of the table."""

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
    "ged": "GED",
    "matched_iou": "matched IoU",
    "diversity_agreement": "diversity agreement",
    "rank_correlation": "rank correlation with disagreement",
}
"""Measures of uncertainty and how they are headed, in their order."""

_ABOUT = (
    "ECE, NLL, Brier, AURC (area under the risk-coverage curve) and AUROC (of finding wrongly segmented voxels) are taken in a box "
    "around the true foreground; lower is better for all but AUROC. Uncertainty is the entropy of the mean probability, or the "
    "spread of the votes. 'Dice by': Spearman's correlation, over cases, of the Dice with the summed uncertainty for each voxel of "
    "the mask; -1 is perfect."
)
_ANNOTATORS = (
    "GED (lower is better), matched IoU, diversity agreement and rank correlation (higher) compare the votes with all annotators."
)

Rows = list[list[str]]
"""Cells of a table, the heads first."""


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write `comparison.md`, `.csv`, `.tex`, `.html`, `.json`; `boxes.png`; of several systems `differences.png` and `slopes.png`.

    Returns:
        The files.
    """
    rows, notes = table(comparison), remarks(comparison)
    sure, meant = uncertainty_table(comparison), uncertainty_remark(comparison)
    parts = [(rows, notes), *([(sure, [meant])] if sure else [])]
    texts = {
        "comparison.md": "\n".join(markdown(part) + "\n" + "".join(f"- {note}\n" for note in said) for part, said in parts),
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
        pictures = {"differences.png": differences(comparison), **pictures, "slopes.png": slopes(comparison)}
    for name, figure in pictures.items():
        write_figure(out / name, figure)
        written.append(out / name)
    sections = [
        Section("Scores and costs", " ".join(notes), rows),
        *([Section("Uncertainty", meant, sure)] if sure else []),
        Section("Pictures", "", (), [embed(figure) for figure in pictures.values()]),
    ]
    return [*written, write_report(out / "comparison.html", f"{SCORES[comparison.score]}, {len(rows) - 1} systems", sections)]


def table(comparison: Comparison) -> Rows:
    """The comparison as a person reads it: scores in per cent with intervals, differences and p, costs."""
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
    """A row for each system that did not fail, without measures that no system has; nothing if they have none at all."""
    by_name = {competitor.name: competitor.uncertainty() for competitor in comparison.finished}
    shown = [measure for measure in MEASURES if any(measure in found for found in by_name.values())]
    rows = [["system", *[MEASURES[measure] for measure in shown]]]
    for name, found in by_name.items():
        rows.append([name, *[_measured(*found[measure]) if measure in found else "" for measure in shown]])
    return rows if shown else []


def uncertainty_remark(comparison: Comparison) -> str:
    """What the numbers of `uncertainty_table` are."""
    spread = "After ±: standard deviation over trainings. " if len(comparison.finished[0].results) > 1 else ""
    annotators = f" {_ANNOTATORS}" if any("ged" in competitor.uncertainty() for competitor in comparison.finished) else ""
    return f"{spread}{_ABOUT}{annotators}"


def remarks(comparison: Comparison) -> list[str]:
    """What the table's numbers are, and what is not in it."""
    protocol, first, score = comparison.protocol, comparison.finished[0], comparison.score
    count, folds = len(first.values(score)), list(dict.fromkeys(str(result.fold) for result in first.results))
    seeds = len({result.seed for result in first.results})
    part = f"all cases of {protocol['data']}"
    if protocol["split"] != "all":
        part = f"{protocol['split']} part of fold {', '.join(folds)} of {protocol['folds']} ({protocol['partition']})"
    said = [f"{competitor.name} failed: {competitor.failure}" for competitor in comparison.competitors if competitor.failure]
    if comparison.competitors[0].failure:
        said.append(f"The first system failed, so that the others are held against {comparison.reference}.")
    missing = {competitor.name: comparison.described[competitor.name][None][score].missing for competitor in comparison.finished}
    said += [
        f"{name}: {cases} of {count} cases have no {SCORES[score]}, and are in no mean of it."
        for name, cases in missing.items()
        if cases
    ]
    said += [
        f"{count} cases of {protocol['data']}: {part}, scored by {protocol['scoring']}.",
        "In brackets: 95 % bootstrap interval over cases."
        + (" After ±: standard deviation over folds." if _several_folds(comparison) else "")
        + (f" After ±±: standard deviation over {seeds} trainings with different seeds." if seeds > 1 else ""),
        f"Against {comparison.reference}: difference of the mean {SCORES[score]} over the classes. p: paired, two-sided, over "
        "cases, corrected after Holm for the number of systems. Cases are taken as independent; "
        + (
            "each case counts by its mean over the trainings, whose chance is seen in their standard deviation and not in p."
            if seeds > 1
            else "each system was trained once for a fold, so that chance between trainings is not in them."
        ),
    ]
    if sum(len(result.scores) for result in first.results) > count * seeds:
        said.append("Several folds test the same cases: a case counts once, by its mean over these folds.")
    if _several_folds(comparison):
        said.append(
            f"The t-test over {len(folds)} folds is the paper's. The folds' training cases overlap, so that its p is too small, "
            "and with so few folds it sees large differences only; it is not corrected."
        )
    return [
        *said,
        "GFLOP: convolutions and matrix products for the first case, all votes and windows. Seconds an image: median. Memory: peak "
        "of the training process.",
    ]


def markdown(rows: Rows) -> str:
    """A Markdown table."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def latex(rows: Rows, notes: Sequence[str]) -> str:
    """A LaTeX table with booktabs; the notes as comments."""
    lines = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in rows]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    columns = "l" + "r" * (len(rows[0]) - 1)
    return "\n".join([*[f"% {note}" for note in notes], rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"


def numbers(comparison: Comparison) -> str:
    """CSV with every number in full: a row for each system, class and score."""
    text = io.StringIO()
    writer = csv.writer(text)
    costs = list(comparison.finished[0].cost())
    tests = ["difference", "wilcoxon", "permutation", "t_over_folds"]
    writer.writerow(
        ["system", "class", "score", "mean", "sd_over_folds", "sd_over_seeds", "low", "high", "missing", *tests, *costs, "failure"]
    )
    for name, system in comparison.to_dict()["systems"].items():
        if "failure" in system:
            writer.writerow([name, *[""] * (8 + len(tests) + len(costs)), system["failure"]])
            continue
        for kind, scores in [*system["classes"].items(), ("mean", system["mean"])]:
            for score, found in scores.items():
                tested = scores is system["mean"] and score == comparison.score
                against = system.get("against_reference", {}) if tested else {}
                described = [found["mean"], found["sd_over_folds"], found["sd_over_seeds"], *found["interval"], found["missing"]]
                writer.writerow(
                    [name, kind, score, *described, *[against.get(test) for test in tests], *system["cost"].values(), ""]
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
        found = comparison.described[competitor.name][kind][comparison.score]
        spread = "" if math.isnan(found.sd_over_folds) else f" ± {scale * found.sd_over_folds:.2f}"
        spread += "" if math.isnan(found.sd_over_seeds) else f" ±± {scale * found.sd_over_seeds:.2f}"
        mean = "none" if math.isnan(found.mean) else f"{scale * found.mean:.2f}"
        cells.append(mean + spread + _interval(found.interval, scale, ".2f"))
    against = comparison.against.get(competitor.name)
    folds = _several_folds(comparison)
    if against is None:
        cells += ["reference", "", "", *([""] if folds else [])]
    else:
        difference = "none" if math.isnan(against.difference) else f"{scale * against.difference:+.2f}"
        cells.append(difference + _interval(against.interval, scale, "+.2f"))
        cells += [_p(against.wilcoxon), _p(against.permutation), *([_p(against.t_over_folds)] if folds else [])]
    shown: dict[str, Callable[[float], str]] = {
        "parameters": lambda count: f"{count / 1e6:.2f}",
        "gigaflops": lambda operations: f"{operations:.1f}",
        "seconds_per_image": lambda seconds: f"{seconds:.2f}",
        "training_minutes": lambda minutes: f"{minutes:.1f}",
        "training_steps": lambda steps: f"{steps:.0f}",
        "peak_memory_gib": lambda memory: f"{memory:.1f}",
    }
    return cells + ["" if value is None else shown[name](value) for name, value in competitor.cost().items()]


def _measured(mean: float, sd: float) -> str:
    return f"{mean:.3g}" if math.isnan(sd) else f"{mean:.3g} ± {sd:.1g}"


def _interval(ends: tuple[float, float], scale: float, how: str) -> str:
    return "" if math.isnan(ends[0]) else f" ({scale * ends[0]:{how}} to {scale * ends[1]:{how}})"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _escaped(cell: str) -> str:
    """For LaTeX."""
    special = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$", "<": "$<$"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in cell)
