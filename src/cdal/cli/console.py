"""Output of the command line in the terminal.

Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from cdal.cli.output import counted, marked, plain
from cdal.evaluation.metrics import DISTANCES, SCORES
from cdal.runtime.events import Event, Pace
from cdal.training.progress import Step

if TYPE_CHECKING:
    from cdal.datasets.check import Check


_error = Console(stderr=True)
_EXAMPLES = 5
"""Number of findings of one kind that are shown."""

_LINES_WITHOUT_TERMINAL = 20
"""Number of progress lines of one training, or of one slow file, without a terminal."""

_SECONDS_BETWEEN_LINES = 10.0
"""Minimum time between two progress lines about a file."""

_SECONDS_BETWEEN_PACES = 60.0
"""Minimum time between two progress lines about many files."""


class ProgressBars:
    """A progress bar for each task; without a terminal, a few lines for slow tasks."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.bars: dict[str, TaskID] = {}
        self.printed: dict[tuple[str, int], int] = {}
        self.last = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show the progress of a task, or its line of text for the user."""
        if event.message and not isinstance(event, Step):
            message = plain(event.message)
            _error.print(message, style="yellow", highlight=False, markup=False, soft_wrap=True)
            return
        if event.task not in self.bars:
            self.bars[event.task] = self.progress.add_task(event.task, total=event.total, text="")
        text = _step(event) if isinstance(event, Step) else f"{_count(event)} {event.name}"
        if isinstance(event, Pace):
            text = f"{_count(event)}{_pace(event)} {event.name}"
        text = plain(text)
        self.progress.update(
            self.bars[event.task], completed=event.done, total=event.total, text=text
        )
        if not _error.is_terminal:
            self._print(event, text)
            if isinstance(event, Pace):
                self._print_pace(event)
        if isinstance(event, Step) and event.message:
            message = plain(f"warning: {event.message}")
            _error.print(message, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def _print(self, event: Event, text: str) -> None:
        """Print a line when the next of `_LINES_WITHOUT_TERMINAL` equal parts is done.

        The parts are those of a training or of a file that takes long.
        """
        item, share = divmod(event.done, 1.0) if not isinstance(event, Step) else (0, event.done)
        key, part = (event.task, int(item)), int(share * _LINES_WITHOUT_TERMINAL)
        due = isinstance(event, Step) or time.monotonic() - self.last > _SECONDS_BETWEEN_LINES
        if part > self.printed.get(key, 0) and due:
            self.printed[key], self.last = part, time.monotonic()
            subject = text if isinstance(event, Step) else f"of {plain(event.name)}"
            _error.print(f"{share:4.0%} {subject}", highlight=False, markup=False, soft_wrap=True)

    def _print_pace(self, pace: Pace) -> None:
        """Print a line about many items now and then, for logs."""
        if pace.done == int(pace.done) and time.monotonic() - self.last > _SECONDS_BETWEEN_PACES:
            self.last = time.monotonic()
            text = f"{_count(pace) or int(pace.done)} done{_pace(pace)}"
            _error.print(text, highlight=False, markup=False, soft_wrap=True)


def _count(event: Event) -> str:
    return f"{int(event.done)}/{event.total:.0f}" if event.total else ""


def _pace(pace: Pace) -> str:
    failed = f", {pace.failed} failed" if pace.failed else ""
    left = "" if pace.seconds_left is None else f", {_clock(pace.seconds_left)} left"
    return f", {pace.rate:.2g}/s{failed}{left}" if pace.rate else failed


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes = int(seconds) // 60
    hours = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{hours}:{int(seconds) % 60:02d}"


def _step(step: Step) -> str:
    dice = ", ".join(f"{name} {value:.3f}" for name, value in step.scores.items())
    left = _clock(step.seconds_left)
    text = f"step {step.step}, loss {step.loss:.3f}, {step.rate:.1f} steps/s, {left} left"
    return text + (f"; Dice {dice}" if dice else "")


@contextmanager
def progress_bar() -> Iterator[ProgressBars]:
    """Yield a function that takes events and shows them as progress bars."""
    with Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=_error,
        disable=not _error.is_terminal,
    ) as progress:
        yield ProgressBars(progress)


def show_summary(summary: Mapping[str, Any]) -> None:
    """Show the scores of `cdal evaluate` as tables, one for each scoring protocol.

    How they were made, and the measures of uncertainty for research, are in the summary alone.
    """
    protocol = summary["protocol"]
    console = Console()
    for scoring, scores in ({protocol["scoring"]: summary} | summary.get("also", {})).items():
        table = Table(
            title=(
                f"{counted(summary['cases'], 'case')}, scored by the protocol {marked(scoring)}: "
                "mean and 95 % interval over cases"
            )
        )
        columns = scores["classes"] | (
            {"mean": scores["mean"]} if len(scores["classes"]) > 1 else {}
        )
        table.add_column("")
        for name in columns:
            table.add_column(marked(name), overflow="fold")
        for score, heading in SCORES.items():
            unit = f" {protocol['unit']}" if score in DISTANCES else ""
            table.add_row(
                marked(heading + unit), *[_cell(values, score) for values in columns.values()]
            )
        console.print(table)
    error = summary["uncertainty"]["ece"]
    if error is not None:
        text = f"calibration: the probabilities are {error:.4f} off (0: as often right as they say)"
        console.print(text, highlight=False, markup=False)
    lines = [*_annotator_lines(summary.get("annotators")), *_quality_lines(summary.get("quality"))]
    for line in lines:
        console.print(plain(line), highlight=False, markup=False)
    console.print(f"{summary['seconds_per_case']:.2f} s a case")


def _annotator_lines(annotators: Mapping[str, Any] | None) -> list[str]:
    """How far the votes are from several annotators, in a line."""
    if not annotators:
        return []
    parts = {
        "ged": "energy distance {:.3f} (0: they differ as annotators do)",
        "ged_deterministic": "that of one answer {:.3f}",
        "matched_iou": "matched IoU {:.3f}",
    }
    told = [
        text.format(annotators[name])
        for name, text in parts.items()
        if annotators.get(name) is not None
    ]
    return [f"votes beside the annotators: {', '.join(told)}"] if told else []


def _quality_lines(quality: Mapping[str, Any] | None) -> list[str]:
    """What to say about the estimates of quality: how right they were."""
    if quality is None:
        return []
    lines = []
    for name, of_class in quality["classes"].items():
        text = (
            f"quality of {name}: expected Dice is {of_class['error']:.3f} off, rank correlation "
            f"{_number(of_class['rank_correlation'])}"
        )
        if of_class["coverage"] is not None:
            text += (
                f"; {of_class['coverage']:.0%} of Dice in their 90 % intervals "
                f"({of_class['width']:.3f} wide)"
            )
        if of_class["volume_coverage"] is not None:
            text += (
                f", {of_class['volume_coverage']:.0%} of volumes "
                f"({of_class['volume_width']:.0%} wide)"
            )
        lines.append(text)
    if quality["outside"] is not None:
        lines.append(f"unlike the training images: {quality['outside']:.0%} of the cases")
    return lines


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def show_check(checked: Check, everything: bool = False) -> None:
    """Show the findings of `cdal check` as a table by level and kind, errors first."""
    console = Console()
    shown: Counter[tuple[str, str]] = Counter()
    table = Table("level", "kind", "case", Column("what", overflow="fold"))
    for finding in checked.findings:
        key = (finding.level, finding.kind)
        shown[key] += 1
        if everything or shown[key] <= _EXAMPLES:
            colour = {"error": "red", "warning": "yellow", "note": "dim"}[finding.level]
            table.add_row(
                f"[{colour}]{finding.level}[/]",
                finding.kind,
                marked(finding.case),
                marked(finding.message),
            )
    for (level, kind), count in shown.items():
        if count > _EXAMPLES and not everything:
            table.add_row(level, kind, "", f"... and {count - _EXAMPLES} more (--all shows them)")
    if checked.findings:
        console.print(table)
    facts = checked.facts
    console.print(
        f"layout: {plain(checked.folder.layout)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if facts:
        shapes = sorted({fact.shape for fact in facts})
        span = (
            str(shapes[0])
            if len(shapes) == 1
            else f"{len(shapes)} shapes from {shapes[0]} to {shapes[-1]}"
        )
        console.print(
            f"{counted(len(facts), 'case')} can be read; {span}; classes: "
            f"{marked(', '.join(checked.folder.classes)) or 'unknown'}",
            highlight=False,
            markup=False,
        )
    levels = Counter(finding.level for finding in checked.findings)
    counts = [counted(levels[level], level) for level in ("error", "warning", "note")]
    console.print(", ".join(counts), highlight=False)


def show_findings(checked: Check) -> None:
    """Show the first warnings of a check on standard error."""
    for finding in [finding for finding in checked.findings if finding.level == "warning"][
        :_EXAMPLES
    ]:
        _error.print(
            f"warning: {marked(finding.message)}", style="yellow", highlight=False, soft_wrap=True
        )


def show_tables(tables: Sequence[Sequence[Sequence[str]]], notes: Sequence[str]) -> None:
    """Show tables and notes; the first row of each table has its column headings."""
    console = Console()
    for rows in tables:
        table = Table(*[Column(marked(heading), overflow="fold") for heading in rows[0]])
        for row in rows[1:]:
            table.add_row(*[marked(cell) for cell in row])
        console.print(table)
    for note in notes:
        console.print(plain(note), style="dim", highlight=False, markup=False)


def show_values(values: Mapping[str, Any]) -> None:
    """Show nested values as YAML."""
    text = yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True, width=10_000)
    Console().print(text, end="", highlight=False, markup=False, soft_wrap=True)


def _cell(scores: Mapping[str, Any], score: str) -> str:
    value, (low, high) = scores[score], scores["interval"][score]
    if value is None:
        return "none"
    return f"{value:.4f}" if low is None else f"{value:.4f} ({low:.4f}-{high:.4f})"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
