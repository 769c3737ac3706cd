"""The benchmark as a whole: its report and its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.experiments.speed.run import PARTS, Measured, bench
from cdal.runtime.errors import UserError


def test_the_report_holds_every_row_in_both_forms(tmp_path: Path):
    report = Measured(
        {"processor": "x"},
        {"encoder": [{"batch": 1, "seconds": 0.01234}, {"batch": 8, "GFLOP/s": 1234.5}]},
    )
    report.write(tmp_path)
    assert json.loads((tmp_path / "bench.json").read_text())["encoder"][1]["GFLOP/s"] == 1234.5
    text = (tmp_path / "bench.md").read_text()
    assert "| batch | seconds | GFLOP/s |" in text
    assert "| 1 | 0.0123 |  |" in text and "| 8 |  | 1234 |" in text
    assert PARTS["encoder"] in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"names": ["speed"]}, "no speed to measure"),
        ({"systems": ["nnunet"]}, "no nnunet"),
        ({"names": ["dice"]}, "needs --data"),
        ({"rounds": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: dict, message: str):
    with pytest.raises(UserError, match=message):
        bench(**words)


def test_the_command_prints_json_and_nothing_else(
    small_encoder: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["bench", "encoder", "--rounds", "1", "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "bench.json").read_text())
    assert printed["machine"][0]["matrix product GFLOP/s"] > 0
