"""What an experiment found, as a page, as JSON, and as CSV with the scores of every case."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.bench.machine import about
from cdal.comparison import Comparison, Competitor
from cdal.comparison_report import COSTS, Rows, markdown, remarks, table
from cdal.evaluation import SUMMARY
from cdal.files import replacing
from cdal.metrics import nan_to_none, sample_sd

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


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        comparison: of the variants' scores.
        uncertainty: by variant and measure, the mean over its trainings and their standard deviation (NaN with one).
    """

    comparison: Comparison
    uncertainty: Mapping[str, Mapping[str, tuple[float, float]]]

    def to_dict(self) -> dict[str, Any]:
        """Every number, for JSON; NaN becomes none."""
        uncertainty = {
            variant: {measure: {"mean": mean, "sd": sd} for measure, (mean, sd) in found.items()}
            for variant, found in self.uncertainty.items()
        }
        return {**self.comparison.to_dict(), "uncertainty": nan_to_none(uncertainty)}


def findings(comparison: Comparison) -> Finding:
    """The comparison, and what its evaluations say of uncertainty."""
    return Finding(comparison, {competitor.name: _uncertainty(competitor) for competitor in comparison.finished})


def _uncertainty(competitor: Competitor) -> dict[str, tuple[float, float]]:
    summaries = [json.loads((result.path / SUMMARY).read_text(encoding="utf-8")) for result in competitor.results]
    told = [{**summary.get("uncertainty", {}), **summary.get("annotators", {})} for summary in summaries]
    found = {}
    for measure in MEASURES:
        values = [one[measure] for one in told if one.get(measure) is not None]
        if len(values) == len(told):
            found[measure] = (float(np.mean(values)), sample_sd(np.array(values)))
    return found


def uncertainty_table(finding: Finding) -> Rows:
    """A row for each variant; measures that no variant has are left out."""
    shown = [measure for measure in MEASURES if any(measure in found for found in finding.uncertainty.values())]
    rows = [["system", *[MEASURES[measure] for measure in shown]]]
    for name, found in finding.uncertainty.items():
        rows.append([name, *[_cell(*found[measure]) if measure in found else "" for measure in shown]])
    return rows


def write_page(finding: Finding, name: str, question: str, command: str, protocol: str, device: str, out: Path) -> None:
    """`NAME.md`, `NAME.json` and `NAME.csv`; the device is `cpu`, `cuda` or `mps`."""
    comparison, here = finding.comparison, about(device)
    trainings = _trainings(comparison)
    hours = sum(training.get("seconds", 0.0) for training in trainings) / 3600
    versions = sorted({training.get("cdal", "of unknown version") for training in trainings})
    rows = table(comparison)
    annotators = f" {_ANNOTATORS}" if any("ged" in found for found in finding.uncertainty.values()) else ""
    parts = [
        f"# {name}",
        f"**Question.** {question}",
        f"    {command}",
        f"**Protocol.** {protocol} {here['processor']}, {here['threads']} threads, {device}, PyTorch {here['torch']}, cDAL "
        f"{', '.join(versions)}; {hours:.1f} hours of training in all.",
        "## Accuracy",
        markdown([row[:-COSTS] for row in rows]).rstrip(),
        "\n".join(f"- {note}" for note in remarks(comparison)),
        "## Uncertainty",
        markdown(uncertainty_table(finding)).rstrip(),
        f"After ±: standard deviation over trainings. {_ABOUT}{annotators}",
        "## Cost",
        markdown([row[:1] + row[-COSTS:] for row in rows]).rstrip(),
        f"The same as [JSON]({name}.json); the scores of every case as [CSV]({name}.csv).",
    ]
    numbers = {
        "question": question,
        "command": command,
        "how": protocol,
        "machine": here,
        "versions": versions,
        "training_hours": hours,
        **finding.to_dict(),
    }
    texts = {"md": "\n\n".join(parts) + "\n", "json": json.dumps(numbers, indent=1) + "\n", "csv": _every_case(comparison.finished)}
    for suffix, text in texts.items():
        with replacing(out / f"{name}.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")


def _trainings(comparison: Comparison) -> list[Mapping[str, Any]]:
    """What every training took, each told once however often it was sampled."""
    results = [result for competitor in comparison.finished for result in competitor.results]
    return list({result.path.parent: result.cost.get("training") or {} for result in results}.values())


def _every_case(competitors: Sequence[Competitor]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "fold", "seed", "case", "class", "dice", "iou"])
    for competitor in competitors:
        for result in competitor.results:
            for case, scores in result.scores.items():
                for kind, dice, iou in zip(result.classes, scores["dice"], scores["iou"], strict=True):
                    writer.writerow([competitor.name, result.fold, result.seed, case, kind, f"{dice:.4f}", f"{iou:.4f}"])
    return text.getvalue()


def _cell(mean: float, sd: float) -> str:
    return f"{mean:.3g}" if math.isnan(sd) else f"{mean:.3g} ± {sd:.1g}"
