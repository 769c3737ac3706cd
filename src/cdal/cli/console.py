"""What the command line shows in the terminal. Progress goes to standard error, results to standard output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from cdal.evaluation.metrics import DISTANCES, SCORES

if TYPE_CHECKING:
    from cdal.datasets.check import Check
    from cdal.training.progress import TrainingProgress


_error = Console(stderr=True)


_EXAMPLES = 5
"""Findings of one kind that are shown."""


_LINES_WITHOUT_TERMINAL = 20
"""Lines that one training prints where standard error is a file."""


class TrainingBar:
    """A bar for the cases read and one for the steps taken; in a file, some lines."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.reading: TaskID | None = None
        self.training: TaskID | None = None
        self.printed = 0

    def loaded(self, count: int) -> None:
        """One more of `count` cases is in memory."""
        if self.reading is None:
            self.reading = self.progress.add_task("reading", total=count, text="cases")
        self.progress.advance(self.reading)

    def stepped(self, now: TrainingProgress) -> None:
        """One more step is done."""
        if self.training is None:
            self.training = self.progress.add_task("training", total=1.0, text="")
        dice = ", ".join(f"{name} {value:.3f}" for name, value in now.scores.items())
        left = f"{int(now.seconds_left) // 60}:{int(now.seconds_left) % 60:02d}"
        text = f"step {now.step}, loss {now.loss:.3f}, {now.rate:.1f} steps/s, {left} left" + (f"; Dice {dice}" if dice else "")
        self.progress.update(self.training, completed=now.fraction, text=text)
        due = int(now.fraction * _LINES_WITHOUT_TERMINAL)
        if not _error.is_terminal and due > self.printed:
            self.printed = due
            _error.print(f"{now.fraction:4.0%} {text}", highlight=False, soft_wrap=True)


@contextmanager
def training_bar() -> Iterator[TrainingBar]:
    """Progress of a training."""
    with Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[text]}"),
        console=_error,
        disable=not _error.is_terminal,
    ) as progress:
        yield TrainingBar(progress)


class CountingBar:
    """Progress over files: call it with a file's name and the number of all; `part` tells of a file that takes long."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task, self.printed = progress, task, 0

    def __call__(self, name: str, count: int) -> None:
        """One more of `count` files is done."""
        self.progress.update(self.task, total=count, advance=1, name=name)
        self.printed = 0

    def part(self, name: str, share: float) -> None:
        """So much of a file is done."""
        self.progress.update(self.task, name=f"{name} {share:.0%}")
        due = int(share * _LINES_WITHOUT_TERMINAL)
        if not _error.is_terminal and due > self.printed:
            self.printed = due
            _error.print(f"{share:4.0%} of {name}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def counting_bar(what: str) -> Iterator[CountingBar]:
    """Progress over files."""
    with Progress(
        TextColumn(what),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[name]}"),
        console=_error,
        disable=not _error.is_terminal,
    ) as progress:
        yield CountingBar(progress, progress.add_task(what, total=None, name=""))


def show_summary(summary: Mapping[str, Any]) -> None:
    """The table of `cdal evaluate`."""
    protocol = dict(summary["protocol"])
    said = ", ".join(f"{name} {value}" for name, value in protocol.items() if name != "scoring")
    console = Console()
    for scoring, scores in ({protocol["scoring"]: summary} | summary.get("also", {})).items():
        table = Table(title=f"{summary['cases']} cases, scored by the protocol {scoring}: mean and 95 % interval over cases")
        columns = scores["classes"] | ({"mean": scores["mean"]} if len(scores["classes"]) > 1 else {})
        table.add_column("")
        for name in columns:
            table.add_column(escape(name), overflow="fold")
        for score, heading in SCORES.items():
            unit = f" {protocol['unit']}" if score in DISTANCES else ""
            table.add_row(heading + unit, *[_cell(values, score) for values in columns.values()])
        console.print(table)
    console.print(said, style="dim", highlight=False)
    for part in ("uncertainty", "annotators"):
        numbers = {name: value for name, value in summary.get(part, {}).items() if not isinstance(value, dict)}
        told = ", ".join(
            f"{name.replace('_', ' ')} {'none' if value is None else f'{value:.4g}'}" for name, value in numbers.items()
        )
        if told:
            console.print(f"{part}: {told}", highlight=False)
    console.print(f"{summary['seconds_per_case']:.2f} s a case")


def show_check(checked: Check, everything: bool = False) -> None:
    """The table of `cdal check`: findings by level and kind, errors first."""
    console = Console()
    shown: Counter[tuple[str, str]] = Counter()
    table = Table("level", "kind", "case", Column("what", overflow="fold"))
    for finding in checked.findings:
        key = (finding.level, finding.kind)
        shown[key] += 1
        if everything or shown[key] <= _EXAMPLES:
            colour = {"error": "red", "warning": "yellow", "note": "dim"}[finding.level]
            table.add_row(f"[{colour}]{finding.level}[/]", finding.kind, escape(finding.case), escape(finding.message))
    for (level, kind), count in shown.items():
        if count > _EXAMPLES and not everything:
            table.add_row(level, kind, "", f"... and {count - _EXAMPLES} more (--all shows them)")
    if checked.findings:
        console.print(table)
    facts = checked.facts
    if facts:
        shapes = sorted({fact.shape for fact in facts})
        span = str(shapes[0]) if len(shapes) == 1 else f"{len(shapes)} shapes from {shapes[0]} to {shapes[-1]}"
        console.print(
            f"{len(facts)} cases can be read; {span}; classes: {', '.join(checked.folder.classes) or 'unknown'}", highlight=False
        )
    levels = Counter(finding.level for finding in checked.findings)
    console.print(f"{levels['error']} errors, {levels['warning']} warnings, {levels['note']} notes", highlight=False)


def show_findings(checked: Check) -> None:
    """The warnings of a check, in short, on standard error."""
    for finding in [finding for finding in checked.findings if finding.level == "warning"][:_EXAMPLES]:
        _error.print(f"warning: {escape(finding.message)}", style="yellow", highlight=False, soft_wrap=True)


def show_tables(tables: Sequence[Sequence[Sequence[str]]], notes: Sequence[str]) -> None:
    """Tables of cells, the heads first, and what they mean."""
    console = Console()
    for rows in tables:
        table = Table(*[Column(head, overflow="fold") for head in rows[0]])
        for row in rows[1:]:
            table.add_row(*[escape(cell) for cell in row])
        console.print(table)
    for note in notes:
        console.print(note, style="dim", highlight=False, markup=False)


def show_values(values: Mapping[str, Any]) -> None:
    """Nested values as YAML."""
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
