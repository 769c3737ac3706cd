"""What is shown without a terminal: some lines about what takes long, tables, values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from cdal.cli import console
from cdal.cli.console import (
    progress_bar,
    show_check,
    show_findings,
    show_summary,
    show_tables,
    show_values,
)
from cdal.datasets.check import check_folder
from cdal.evaluation.metrics import DISTANCES, SCORES
from cdal.runtime.events import Event, Pace
from cdal.training.progress import Step
from helpers.files import change, disc_folder

Capture = pytest.CaptureFixture[str]


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def printed(events: Iterable[Event], capsys: Capture) -> list[str]:
    """The lines on standard error; there is nothing on standard output."""
    with progress_bar() as report:
        for event in events:
            report(event)
    out, error = capsys.readouterr()
    assert out == ""
    return error.splitlines()


def test_a_warning_of_a_training_is_printed(clock: Clock, capsys: Capture):
    step = Step("training", "", 1.0, 1.0, "it had no processor", 10, 0, 10.0, 0.25, {})
    assert printed([step], capsys)[-1] == "warning: it had no processor"


def test_a_training_prints_twenty_lines(clock: Clock, capsys: Capture):
    steps = [
        Step("training", "", n / 1000, 1.0, "", n, 100 - n / 10, 10.0, 0.25, {"lesion": 0.5})
        for n in range(1, 1001)
    ]
    lines = printed(steps, capsys)
    assert [line[:4] for line in lines] == [f"{5 * n:3d}%" for n in range(1, 21)]
    assert lines[0] == "  5% step 50, loss 0.250, 10.0 steps/s, 1:35 left; Dice lesion 0.500"


def test_a_short_training_prints_a_line_for_each_step(clock: Clock, capsys: Capture):
    steps = [Step("training", "", n / 4, 1.0, "", n) for n in range(1, 5)]
    assert [line.split(",")[0] for line in printed(steps, capsys)] == [
        " 25% step 1",
        " 50% step 2",
        " 75% step 3",
        "100% step 4",
    ]


def test_files_that_are_done_quickly_print_nothing(clock: Clock, capsys: Capture):
    events = [Event("segmenting", "a.png", n / 10, 3) for n in range(31)]
    assert printed(events, capsys) == []


def test_a_file_that_takes_long_prints_a_line_every_ten_seconds(clock: Clock, capsys: Capture):
    """At most twenty for each file, and its name as it is, whatever brackets it has."""

    def work(seconds: float) -> Iterable[Event]:
        for part in range(100):
            clock.now += seconds
            yield Event("segmenting", "[red]big.tif", 1 + part / 100, 3)

    slow, quicker = printed(work(4.0), capsys), printed(work(0.5), capsys)
    assert all(line.endswith("% of [red]big.tif") for line in (*slow, *quicker))
    shares = [int(line[:3]) for line in slow]
    assert shares == sorted(set(shares))
    assert 10 < len(shares) <= 20
    assert [int(line[:3]) for line in quicker] == [20, 41, 62, 83]


def test_findings_of_one_kind_are_shown_up_to_five(tmp_path: Path, capsys: Capture):
    disc_folder(tmp_path, count=8)
    for i in range(7):
        change(tmp_path, f"masks/c{i}.png", np.zeros_like)
    checked = check_folder(tmp_path)
    warnings = sum(finding.level == "warning" for finding in checked.findings)
    assert warnings >= 7
    show_check(checked)
    shown = capsys.readouterr().out
    assert shown.count("the mask is empty") == 5
    assert "... and 2 more (--all shows them)" in shown
    assert f"0 errors, {warnings} warnings" in shown
    show_check(checked, everything=True)
    assert capsys.readouterr().out.count("the mask is empty") == 7
    show_findings(checked)
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_one_of_a_kind_is_told_as_one(tmp_path: Path, capsys: Capture):
    (tmp_path / "data").mkdir()
    disc_folder(tmp_path / "data", count=3)
    change(tmp_path / "data", "masks/c0.png", np.zeros_like)
    checked = check_folder(tmp_path / "data")
    (warning,) = [finding for finding in checked.findings if finding.level == "warning"]
    for count, words in ((1, "1 warning,"), (2, "2 warnings,")):
        show_check(replace(checked, findings=(warning,) * count))
        assert f"0 errors, {words} 0 notes" in capsys.readouterr().out


def test_cells_are_shown_as_they_are(capsys: Capture):
    show_tables([[["system", "Dice"], ["[bold]net[/bold]", "90.12"]]], ["a [note]"])
    shown = capsys.readouterr().out
    for text in ("system", "[bold]net[/bold]", "90.12", "a [note]"):
        assert text in shown


def test_values_are_shown_as_yaml(capsys: Capture):
    values = {"size": (1, 2), "nested": {"none": None, "text": "ä: [b]"}, "number": 0.5}
    show_values(values)
    assert yaml.safe_load(capsys.readouterr().out) == values | {"size": [1, 2]}


def test_of_many_files_a_line_a_minute_is_shown(clock: Clock, capsys: Capture):
    def events() -> Iterable[Event]:
        for done in range(1, 8):
            clock.now += 20
            yield Pace("segmenting", "a.png", done, 1000, "", 0.05, 0, 19860.0)
        clock.now += 100
        yield Pace("segmenting", "a.png", 9, None, "", 2.0, 3)

    lines = ["4/1000 done, 0.05/s, 5:31:00 left", "9 done, 2/s, 3 failed"]
    assert printed(events(), capsys) == lines


def test_scores_with_several_annotators_say_how_far_the_votes_are_from_them(capsys: Capture):
    scores = dict.fromkeys((*SCORES, *DISTANCES))
    scores["interval"] = dict.fromkeys(scores, (None, None))
    summary = {
        "cases": 1,
        "classes": {"lesion": scores},
        "protocol": {"scoring": "own-grid", "unit": "pixels"},
        "uncertainty": {"ece": 0.0123},
        "seconds_per_case": 0.5,
    }
    annotators = {"ged": 0.254, "ged_deterministic": None, "matched_iou": 0.61, "empty_votes": 0.5}
    show_summary({**summary, "annotators": annotators})
    shown = " ".join(capsys.readouterr().out.split())
    assert "energy distance 0.254 (0: they differ as annotators do), matched IoU 0.610" in shown
    assert "the probabilities are 0.0123 off" in shown
    show_summary({**summary, "uncertainty": {"ece": None}})
    shown = capsys.readouterr().out
    assert "annotators" not in shown and "calibration" not in shown
