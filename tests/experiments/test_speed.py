"""The benchmark: that it measures what it says, with things whose cost is known."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cdal.cli import main
from cdal.experiments.speed import inference as bench_inference
from cdal.experiments.speed.growth import encoder, model_of_cost
from cdal.experiments.speed.inference import TASKS, Task, inference
from cdal.experiments.speed.machine import best_convolution, machine
from cdal.experiments.speed.run import PARTS, Measured, bench
from cdal.experiments.speed.runtimes import runtimes
from cdal.experiments.speed.timing import gigaflops, interleaved, peak, seconds
from cdal.experiments.speed.training import training
from cdal.runtime.errors import UserError
from cdal.runtime.memory import keep_freed_memory, peak_memory


def test_things_are_called_in_turn_and_medians_told():
    calls: list[str] = []

    def sleep(name: str, length: float) -> None:
        calls.append(name)
        time.sleep(length)

    taken = interleaved({"short": lambda: sleep("short", 0.01), "long": lambda: sleep("long", 0.03)}, rounds=3)
    assert calls[-6:] == ["short", "long"] * 3
    assert 0.01 <= taken["short"] < 0.025
    assert taken["long"] / taken["short"] == pytest.approx(3, rel=0.4)


def test_what_takes_too_long_is_called_once():
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        time.sleep(0.02)

    assert interleaved({"slow": slow}, rounds=5, longest=0.01)["slow"] >= 0.02
    assert len(calls) == 1


def test_operations_and_memory_of_what_is_known():
    a, b = torch.randn(64, 32), torch.randn(32, 16)
    assert gigaflops(lambda: a @ b) == pytest.approx(2 * 64 * 32 * 16 / 1e9)
    found = peak(lambda: torch.ones(2**26).sum())  # a quarter of a GiB
    assert found is None or found == pytest.approx(0.25, abs=0.1)
    assert seconds(lambda: time.sleep(0.01)) >= 0.01


def test_the_cost_is_an_encoder_and_denoisers():
    rows = [{"of": "a volume", "V": V, "T": T, "seconds": 0.03 + 0.002 * V * T} for V in (1, 5, 15) for T in (1, 2, 4)]
    rows.append({"of": "a volume", "V": 5, "T": 2, "threads": 1, "seconds": 9.0})  # no part of the fit
    fitted = model_of_cost(rows)
    assert fitted["encoder s"] == pytest.approx(0.03)
    assert fitted["denoiser s"] == pytest.approx(0.002)
    assert fitted["variance explained"] == pytest.approx(1)


@pytest.fixture(scope="module")
def this_machine() -> list[dict[str, object]]:
    return machine(1, "cpu")


def test_systems_for_volumes_alone_are_left_out_of_pictures(this_machine: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TASKS, "tile", Task("a small tile", "monuseg", "monuseg-paper", (3, 32, 32), 2))
    assert [row["system"] for row in inference("tile", ["unet-3d", "cdal-unet", "3d-ucaps"], this_machine, 1, "cpu")] == [
        "cdal-unet"
    ]


def test_exported_graphs_are_measured_on_volumes_alone():
    with pytest.raises(UserError, match=r"on a volume; cxr\.safetensors segments pictures"):
        runtimes("cxr", 1)


def test_systems_are_measured_on_a_task(this_machine: list, monkeypatch: pytest.MonkeyPatch):
    small = Task("a small volume", "hippocampus", "hippocampus-paper", (1, 16, 16, 16), 3)
    monkeypatch.setitem(TASKS, "volume", small)
    rows = {row["system"]: row for row in inference("volume", ["cdal", "cdal-unet"], this_machine, 1, "cpu")}
    assert {"cdal, 1 vote", "cdal, 5 votes", "cdal, 15 votes", "cdal-unet"} <= set(rows)
    unet, one, five = (rows[name] for name in ("cdal-unet", "cdal, 1 vote", "cdal, 5 votes"))
    assert (five["V"], five["T"], unet["V"], unet["T"]) == (5, 2, 1, 0)
    denoiser = (five["GFLOP"] - one["GFLOP"]) / 8
    assert one["GFLOP"] - 2 * denoiser == pytest.approx(unet["GFLOP"], rel=0.05)  # one encoder, V T denoisers
    assert denoiser < 0.05 * unet["GFLOP"]
    for row in rows.values():
        assert row["GFLOP/s"] == pytest.approx(row["GFLOP"] / row["seconds"])
        dims_best = best_convolution(this_machine, row["precision"], 3)
        assert row["of best convolution"] == pytest.approx(row["GFLOP/s"] / dims_best)


def test_what_would_take_hours_is_measured_in_part_and_multiplied():
    entry = bench_inference._entries(TASKS["volume"], "segdiff", "cpu")[0]
    assert entry.note == "one vote, one step, 4 slices"
    assert entry.times == 5 * 100 * 40 / 4
    assert (entry.facts["V"], entry.facts["T"]) == (5, 100)
    paper = bench_inference._entries(TASKS["picture"], "cdal-paper", "cpu")[0]
    assert (paper.note, paper.times, paper.facts["T"]) == ("one vote, one window", 5 * 25, 2)
    assert 35e6 < paper.parameters < 45e6  # the paper's size for MoNuSeg


def test_the_training_loop_says_where_its_time_goes():
    (row,) = training(4, "cpu", ("cdal-unet",))
    assert row["samples/s"] > 0
    assert 0.3 < row["of turns"] < 1
    assert 0 < row["of batches"] < 0.5


def test_the_report_holds_every_row_in_both_forms(tmp_path: Path):
    report = Measured({"processor": "x"}, {"encoder": [{"batch": 1, "seconds": 0.01234}, {"batch": 8, "GFLOP/s": 1234.5}]})
    report.write(tmp_path)
    assert json.loads((tmp_path / "bench.json").read_text())["encoder"][1]["GFLOP/s"] == 1234.5
    text = (tmp_path / "bench.md").read_text()
    assert "| batch | seconds | GFLOP/s |" in text
    assert "| 1 | 0.0123 |  |" in text and "| 8 |  | 1234 |" in text
    assert PARTS["encoder"] in text


def test_the_encoder_is_held_against_the_best_convolution(this_machine: list):
    for row in encoder(this_machine, 1, "cpu"):
        best = best_convolution(this_machine, row["precision"], 2)
        assert row["of best convolution"] == pytest.approx(row["GFLOP/s"] / best)
        assert 0.02 < row["of best convolution"] < 1.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"names": ["speed"]}, "no speed to measure"),
        ({"systems": ["nnunet"]}, "no nnunet"),
        ({"names": ["dice"]}, "needs --data"),
        ({"rounds": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_measured_is_told(words: dict, said: str):
    with pytest.raises(UserError, match=said):
        bench(**words)


def test_the_command_prints_json_and_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["bench", "encoder", "--rounds", "1", "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "bench.json").read_text())
    assert printed["machine"][0]["matrix product GFLOP/s"] > 0


def test_memory_that_is_kept_is_still_counted():
    keep_freed_memory()
    keep_freed_memory()
    held = peak_memory()
    assert held is None or held > 0.05
    assert np.isfinite(np.ones(10**6).sum())
