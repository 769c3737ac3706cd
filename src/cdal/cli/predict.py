"""`cdal predict`: Segment files with a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import (
    BAD_INPUT,
    DONE,
    IMAGES,
    IN_PART,
    MODEL,
    add_device,
    add_sampling,
    add_series,
    sampling_of,
)

_SHOWN = 5
"""Cases of a kind that are named on the terminal; `predictions.json` has all."""


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    from cdal.inference.outputs import OUTPUTS

    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument(
        "inputs",
        type=str,
        nargs="+",
        help=IMAGES,
    )
    parser.add_argument("--out", type=str, default="cdal-results", help="Folder for the results.")
    parser.add_argument(
        "--save",
        type=str,
        nargs="+",
        default=["mask"],
        help=f"Outputs to write for each image, one or more of: {' '.join(OUTPUTS)}.",
    )
    add_series(parser)
    add_sampling(parser)
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar
    from cdal.inference.load import load
    from cdal.inference.predict import predict

    predictor = load(options.model, sampling_of(options), options.device)
    with progress_bar() as report:
        written = predict(
            predictor,
            options.inputs,
            options.out,
            save=options.save,
            series=options.series,
            report=report,
        )
    for message in written.failed.values():
        tell(f"cdal predict: {message}", error=True)
    passed_over = (
        f", {written.passed_over} earlier results passed over" if written.passed_over else ""
    )
    earlier = f" ({written.earlier} of them by an earlier call)" if written.earlier else ""
    tell(
        f"{len(written.done)} segmented into {options.out}{earlier}, {len(written.failed)} "
        f"failed{passed_over}"
    )
    for line in [*_skipped(written.done), *_judged(written.done, predictor.judge.missing)]:
        tell(line)
    if written.failed:
        return IN_PART if written.done else BAD_INPUT
    return DONE


def _skipped(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Slides of which a part was not segmented."""
    return [
        f"{row['input']}: {row['skipped']:.1%} of the area is glass, taken for background without "
        "being segmented (--no-skip segments it)"
        for row in rows
        if row.get("skipped")
    ]


def _judged(rows: Sequence[Mapping[str, Any]], missing: str) -> list[str]:
    """What to look at first: cases for review, cases unlike the training images, the worst ones."""
    judged = [row for row in rows if row.get("quality")]
    lines = []
    if judged and missing:
        lines.append(f"expected Dice is the votes' own and has no interval: {missing}")
    outside = [row for row in judged if row.get("outside")]
    lines += _listed(
        [f"{row['input']}: {'; '.join(row['warnings'])}" for row in outside],
        f"{len(outside)} unlike the training images:",
    )
    lowest = sorted(judged, key=_lowest)
    review = [row for row in lowest if row.get("verdict") == "review"]
    if any("verdict" in row for row in judged):
        lines += _listed(
            [f"{row['input']}: expected Dice {_lowest(row):.3f}" for row in review],
            f"{len(review)} of {len(judged)} for review:",
        )
    elif len(judged) > 1:
        worst = [f"{row['input']}: {_lowest(row):.3f}" for row in lowest[:_SHOWN]]
        lines += _listed(worst, "lowest expected Dice:")
    return lines


def _lowest(row: Mapping[str, Any]) -> float:
    """Lowest expected Dice of the classes of a case."""
    return min(float(of_class["expected_dice"]) for of_class in row["quality"].values())


def _listed(lines: Sequence[str], heading: str) -> list[str]:
    more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [heading, *(f"  {line}" for line in lines[:_SHOWN]), *more] if lines else []
