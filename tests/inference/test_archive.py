"""Many inputs: as a stream, in shards, by several workers; one result each, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdal.cli import main
from cdal.inference.archive import LoadingWorkers, brief
from cdal.inference.case import CaseWorker, Wanted
from cdal.inference.inputs import Input
from cdal.inference.load import load
from cdal.inference.many import Call, call_of
from cdal.inference.predictor import Predictor
from cdal.inference.record import Record
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Pace
from cdal.runtime.execution.executor import Here, Task
from cdal.runtime.execution.workers import LocalWorkers
from helpers.files import picture
from helpers.serving import picture_model

COUNT = 9
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_model(tmp_path_factory.mktemp("models") / "small.safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        picture(folder / f"case_{number}.png", rng.integers(0, 255, (32, 32)).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def plain(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The masks of the plain command."""
    out = tmp_path_factory.mktemp("plain")
    assert main(command(model, images, out)) == 0
    return masks(out)


def command(model: Path, images: Path, out: Path, *more: str) -> list[str]:
    return ["predict", str(model), str(images), "--out", str(out), "--votes", "2", *more]


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*_mask.png")}


def rows(out: Path) -> list[str]:
    found = json.loads((out / "predictions.json").read_text())["predictions"]
    return [row["mask"] for row in found]


def test_shards_make_the_whole_in_one_folder(
    model: Path,
    images: Path,
    plain: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    done = []
    for number in (1, 2, 3):
        assert main(command(model, images, tmp_path, "--shard", f"{number}/3")) == 0
        done.append(len(masks(tmp_path)))
        line = f"shard {number} of 3: {done[-1] - sum(done[-2:-1])} of {COUNT} cases; "
        assert f"{line}done in this folder: {done[-1]}" in capsys.readouterr().out
    assert masks(tmp_path) == plain
    assert sorted(rows(tmp_path)) == sorted(plain)
    assert main(command(model, images, tmp_path)) == 0
    assert f"{COUNT} segmented into {tmp_path} ({COUNT} of them by an earlier call)" in (
        capsys.readouterr().out
    )


def test_of_two_inputs_of_one_name_the_second_fails_in_a_stream(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The plain call refuses both before the work."""
    twice = tmp_path / "in" / "case_0.png"
    picture(twice, np.zeros((32, 32), np.uint8))
    words = command(model, images, tmp_path / "out")
    words.insert(3, str(twice.parent))
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "would share the name case_0" in told and "in the column name" in told
    assert not (tmp_path / "out").exists()
    assert main([*words, "--shard", "1/1"]) == 3
    message = f"{twice} would share the name case_0 of its results with an input before it"
    told = capsys.readouterr().err
    assert f"cdal predict: {message}" in told and "in the column name" in told
    merged = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len(merged["predictions"]) == COUNT
    assert message in merged["failed"][str(twice)]


@pytest.mark.parametrize("more", [(), ("--shard", "1/1"), ("--workers", "1")])
def test_results_of_another_image_of_one_name_stay_in_their_folder(
    more: tuple[str, ...],
    model: Path,
    images: Path,
    plain: dict[str, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    other = tmp_path / "in" / "case_0.png"
    picture(other, np.zeros((32, 32), np.uint8))
    out = tmp_path / "out"
    assert main(command(model, images, out)) == 0
    assert main(command(model, other.parent, out, *more)) == 2
    told = capfd.readouterr().err
    assert f"{other} would share the name case_0 of its results with another image, " in told
    assert str(images / "case_0.png") in told and "Give another --out" in told
    assert masks(out) == plain and len(rows(out)) == COUNT


def test_an_input_with_which_two_workers_died_is_not_tried_again(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = Input(images / "case_0.png", "case_0", ".png")
    predictor, record = load(model, Sampling(votes=1), "cpu"), Record(tmp_path)
    wanted = Wanted(tmp_path, ("mask",))
    work, frame = CaseWorker(predictor, wanted), Predictor.frame

    def ended(self: Predictor, image: object, name: str) -> object:
        assert record.failed("case_0", str(source.path))  # known, should this process die now
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "frame", ended)
    with pytest.raises(KeyboardInterrupt):
        work(Task("a", source, attempt=2), lambda share: None)
    assert not record.failed("case_0", str(source.path))  # nobody died

    def died(self: Predictor, image: object, name: str) -> object:
        kept.append((tmp_path / ".cdal/records/case_0.json").read_bytes())
        return frame(self, image, name)

    kept: list[bytes] = []
    monkeypatch.setattr(Predictor, "frame", died)
    work(Task("a", source, attempt=2), lambda share: None)
    (tmp_path / "case_0_mask.png").unlink()
    (tmp_path / ".cdal/records/case_0.json").write_bytes(kept[0])  # as a second death leaves it
    with pytest.raises(UserError, match=r"case_0.png: the worker died twice"):
        work(Task("a", source), lambda share: None)
    assert len(kept) == 1
    other = CaseWorker(load(model, Sampling(votes=2), "cpu"), wanted)
    assert not other(Task("a", source), lambda share: None).earlier  # it is another key
    (tmp_path / ".cdal/records/case_0.json").write_bytes(kept[0])
    (tmp_path / "case_0_mask.png").unlink()
    again = CaseWorker(predictor, Wanted(tmp_path, ("mask",), retry=True))
    assert again(Task("a", source), lambda share: None).row["mask"] == "case_0_mask.png"
    assert not record.failed("case_0", str(source.path))


def test_progress_has_rate_failures_and_the_time_left(model: Path, images: Path, tmp_path: Path):
    events: list[Event] = []
    (tmp_path / "bad.png").write_bytes(b"no picture")
    predictor = load(model, Sampling(votes=1), "cpu")
    wanted = Wanted(tmp_path / "out", ("mask",))
    call = Call(predictor.header, [images, tmp_path / "bad.png"], wanted, stream=True)
    found = list(call.run(Here(), lambda: CaseWorker(predictor, wanted), events.append))
    assert [Path(one.path).name for one in found if one.made is None] == ["bad.png"]
    last = events[-1]
    assert isinstance(last, Pace)
    assert (last.done, last.total, last.failed, last.seconds_left) == (COUNT + 1, COUNT + 1, 1, 0)
    middle = events[COUNT // 2]
    assert isinstance(middle, Pace)
    left = (COUNT + 1 - middle.done) / middle.rate
    assert middle.seconds_left == pytest.approx(left)


def test_little_is_told_of_a_row():
    assert brief({"input": "a", "volume": {"x": 1}}) == {"input": "a"}
    quality = {"x": {"expected_dice": 0.9, "hd95": 1}, "y": {"expected_dice": 0.4}}
    row = {"input": "a", "quality": quality, "outside": True, "warnings": ["dark"]}
    assert brief(row) == {"input": "a", "lowest": 0.4, "outside": True, "warnings": ["dark"]}


@pytest.mark.parametrize("more", [[], ["--shard", "1/2"], ["--shard", "2/2"]])
def test_nothing_is_written_if_there_is_no_image(
    more: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Each shard says so, not only that of the table's name."""
    (tmp_path / "empty").mkdir()
    for name, text in (("rows.csv", "path,name\n"), ("other.csv", "image\na.png\n")):
        (tmp_path / name).write_text(text)
    wrong = ["rows.csv", "other.csv", "none.tsv", "none.png", "empty"]
    for paths in (*([name] for name in wrong), wrong):
        inputs = [str(tmp_path / name) for name in paths]
        words = ["predict", str(model), *inputs, "--out", str(tmp_path / "out"), *more]
        assert main(words) == 2
        told = capsys.readouterr()
        assert told.err.count("cdal predict: ") == len(paths)
        assert "nothing was written" in told.err and "segmented" not in told.out
        assert not (tmp_path / "out").exists()


def test_an_unusable_table_beside_an_image_is_recorded(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    events: list[Event] = []
    (tmp_path / "rows.csv").write_text("path\n")
    predictor = load(model, Sampling(votes=1), "cpu")
    inputs = [tmp_path / "rows.csv", images / "case_0.png", tmp_path / "none.png"]
    wanted = Wanted(tmp_path / "out", ("mask",), call_of(inputs))
    call = Call(predictor.header, inputs, wanted)
    found = list(call.run(Here(), lambda: CaseWorker(predictor, wanted), events.append))
    assert sorted(Path(one.path).name for one in found if one.made is None) == [
        "none.png",
        "rows.csv",
    ]
    failed = json.loads((tmp_path / "out/predictions.json").read_text())["failed"]
    assert "lists no image" in failed[str(tmp_path / "rows.csv")]
    assert "no such file" in failed[str(tmp_path / "none.png")]
    last = events[-1]
    assert isinstance(last, Pace)
    assert (last.total, last.failed >= 1) == (3, True)


class Mourned(LocalWorkers):
    """Workers of which one has died, without a process."""

    def run(self, tasks: Iterable[Task], make_worker: Any, heard: Any = None) -> Any:
        yield from Here().run(tasks, make_worker, heard)
        self.deaths += 1


def test_workers_that_died_are_told_at_the_end(
    model: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("cdal.cli.predict.executor_of", lambda options: Mourned(1))
    assert main(command(model, images / "case_0.png", tmp_path, "--workers", "1")) == 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("1 worker has died")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["process", pytest.param("ray", marks=needs_ray)])
def test_masks_of_several_workers_are_those_of_the_plain_command(
    engine: str, model: Path, images: Path, plain: dict[str, bytes], tmp_path: Path
):
    words = command(model, images, tmp_path, "--workers", "2", "--engine", engine)
    done = subprocess.run([sys.executable, "-m", "cdal", *words], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert masks(tmp_path) == plain
    assert sorted(rows(tmp_path)) == sorted(plain)


def workers_of(group: int) -> list[str]:
    """Commands of the worker processes of a process group; ended ones have none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group:
                found.append((process / "cmdline").read_text())
        except (OSError, ProcessLookupError):  # noqa: PERF203 (it has ended)
            continue
    return [words for words in found if "multiprocessing.spawn" in words]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_command_and_records_are_whole(
    number: signal.Signals, model: Path, images: Path, plain: dict[str, bytes], tmp_path: Path
):
    words = command(model, images, tmp_path, "--workers", "2")
    with subprocess.Popen(
        [sys.executable, "-m", "cdal", *words], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while not masks(tmp_path) and process.poll() is None:
            time.sleep(0.02)
        # As a terminal does it: Ctrl-C goes to the workers too.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.terminate()
        _, error = process.communicate()
    assert process.returncode in (130, 0), error  # 0 if it was quicker
    assert sorted(rows(tmp_path)) == sorted(masks(tmp_path))
    assert masks(tmp_path).items() <= plain.items()
    assert workers_of(process.pid) == []


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_call(images: Path, tmp_path: Path, model: Path):
    wanted = Wanted(tmp_path / "out", ("mask",))
    call = Call(load(model).header, [images], wanted, stream=True)
    workers = LoadingWorkers(str(tmp_path / "none.safetensors"), Sampling(), "cpu", wanted)
    with pytest.raises(UserError, match=r"none\.safetensors"):
        list(call.run(LocalWorkers(2), workers, lambda event: None))
