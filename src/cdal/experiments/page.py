"""The page of an experiment, with a figure, its numbers as JSON, and all scores as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdal.evaluation.annotators import annotators_remark, annotators_table
from cdal.evaluation.comparison import Comparison
from cdal.evaluation.competitor import Competitor
from cdal.evaluation.figures import differences
from cdal.evaluation.tables import (
    COSTS,
    markdown,
    remarks,
    table,
    uncertainty_remark,
    uncertainty_table,
)
from cdal.runtime.files import write_figure, write_json, write_text
from cdal.runtime.machine import about
from cdal.runtime.text import text_cell


def write_page(
    comparison: Comparison,
    name: str,
    question: str,
    command: str,
    protocol: str,
    device: str,
    out: Path,
) -> None:
    """Write `NAME.md`, `NAME.json` and `NAME.csv`; with several systems, also `NAME.png`.

    Args:
        comparison: the comparison to report.
        name: name of the experiment and of the files.
        question: question of the experiment.
        command: command that reproduces the page.
        protocol: description of the trainings.
        device: `cpu`, `cuda` or `mps`.
        out: folder for the files.
    """
    machine = about(device)
    trainings = _trainings(comparison)
    hours = sum(training.get("seconds", 0.0) for training in trainings) / 3600
    versions = sorted({training.get("cdal", "of unknown version") for training in trainings})
    rows = table(comparison)
    parts = [
        f"# {name}",
        f"**Question.** {question}",
        f"    {command}",
        f"**Protocol.** {protocol} {machine['processor']}, threads: {machine['threads']}, "
        f"{device}, PyTorch {machine['torch']}, cDAL {', '.join(versions)}; {hours:.1f} hours of "
        "training in all.",
        "## Accuracy",
        markdown([row[:-COSTS] for row in rows]).rstrip(),
        *([f"![The differences, with their intervals]({name}.png)"] if comparison.against else []),
        "\n".join(f"- {note}" for note in remarks(comparison)),
        *_annotators(comparison),
        "## Uncertainty",
        markdown(uncertainty_table(comparison)).rstrip(),
        uncertainty_remark(comparison),
        "## Cost",
        markdown([row[:1] + row[-COSTS:] for row in rows]).rstrip(),
        f"The same as [JSON]({name}.json); the scores of every case as [CSV]({name}.csv).",
    ]
    numbers = {
        "question": question,
        "command": command,
        "how": protocol,
        "machine": machine,
        "versions": versions,
        "training_hours": hours,
        **comparison.to_dict(),
    }
    write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
    write_json(out / f"{name}.json", numbers)
    write_text(out / f"{name}.csv", _every_case(comparison.finished))
    if comparison.against:
        write_figure(out / f"{name}.png", differences(comparison))


def _annotators(comparison: Comparison) -> list[str]:
    """The part about several annotators; empty if no case has several."""
    rows = annotators_table(comparison)
    if not rows:
        return []
    return ["## Several annotators", markdown(rows).rstrip(), annotators_remark(comparison)]


def _trainings(comparison: Comparison) -> list[Mapping[str, Any]]:
    """Cost of every training; a training counts once, however it was sampled or put together."""
    trainings: dict[str, Mapping[str, Any]] = {}
    for result in [result for competitor in comparison.finished for result in competitor.results]:
        folder, cost = result.path.parent, result.cost.get("training") or {}
        trainings |= cost.get("members") or {f"{folder.parent.name}/{folder.name}": cost}
    return list(trainings.values())


def _every_case(competitors: Sequence[Competitor]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "fold", "seed", "case", "class", "dice", "iou"])
    for competitor in competitors:
        for result in competitor.results:
            for case, scores in result.scores.items():
                for kind, dice, iou in zip(
                    result.classes, scores["dice"], scores["iou"], strict=True
                ):
                    writer.writerow(
                        [
                            text_cell(competitor.name),
                            result.fold,
                            result.seed,
                            text_cell(case),
                            text_cell(kind),
                            f"{dice:.4f}",
                            f"{iou:.4f}",
                        ]
                    )
    return text.getvalue()
