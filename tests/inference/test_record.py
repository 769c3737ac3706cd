"""Records of predictions: killed at any moment, two calls at once, files of others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cdal.inference.record import Record, ResultsOf
from cdal.runtime.errors import UserError
from cdal.runtime.files import _swept

NAMES = ("x_mask.png", "x_uncertainty.png")
ROW = {"input": "x.png", "mask": NAMES[0], "uncertainty": NAMES[1]}


class KilledError(BaseException):
    """Stands for the end of the process."""


def predict_once(out: Path, text: str = "a", key: str = "k") -> None:
    """What a call does for one case whose results hold this text."""
    record = Record(out)
    record.begin()
    if record.finished("x", key) is None:
        with record.scratch() as scratch:
            made = [scratch / record.free("x", name).name for name in NAMES]
            for path in made:
                path.write_text(text)
            record.add("x", key, {**ROW, "key": key}, made)
    record.merge()


def rows(out: Path) -> list[dict[str, object]]:
    return json.loads((out / "predictions.json").read_text())["predictions"]


def killed_at(moment: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> bool:
    """Do the work, but end before the given one of its steps on the disk; returns whether it
    ended."""
    count = 0
    replace = Path.replace

    def step(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > moment:
            raise KilledError
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", step)
        try:
            work()
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("earlier", [None, "old"])
def test_a_call_killed_at_any_moment_is_finished_by_the_same_call(
    earlier: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In an empty folder, and in one with the results of another call."""
    undisturbed = tmp_path / "undisturbed"
    predict_once(undisturbed)
    for moment in range(100):
        out = tmp_path / f"{moment}"
        if earlier is not None:
            predict_once(out, earlier, key=earlier)
        ended = killed_at(moment, monkeypatch, lambda out=out: predict_once(out))
        predict_once(out)
        assert rows(out) == rows(undisturbed)
        assert [(out / name).read_text() for name in NAMES] == ["a", "a"]
        if not ended:
            break
    assert moment >= 5  # both records, two results, and predictions.json


def test_what_was_moved_before_the_kill_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The record says which bytes the call had made; they are all there."""
    assert killed_at(3, monkeypatch, lambda: predict_once(tmp_path))
    assert all((tmp_path / name).is_file() for name in NAMES)
    assert Record(tmp_path).finished("x", "k") == {**ROW, "key": "k"}
    assert Record(tmp_path).finished("x", "other") is None


def test_a_call_that_makes_nothing_settles_what_a_killed_one_has_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    predict_once(tmp_path / "whole")
    out = tmp_path / "out"
    moment = 0
    while killed_at(moment, monkeypatch, lambda: predict_once(out)):
        # An end of the process leaves what `with` would have deleted.
        for left in (".cdal/tmp/.cdal-left", ".cdal/records/.cdal-left"):
            (out / left).parent.mkdir(parents=True, exist_ok=True)
            (out / left).write_text("half")
        _swept.clear()
        predict_once(out)
        assert not list(out.rglob(".cdal-*"))
        record = Path(".cdal/records/x.json")
        assert (out / record).read_text() == (tmp_path / "whole" / record).read_text()
        shutil.rmtree(out)
        moment += 1
    assert moment > 3


def test_results_of_a_killed_call_are_not_taken_for_those_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A call with other options has replaced one of two files when it is killed; the first call
    comes again.
    """
    predict_once(tmp_path, "first", key="first")
    assert killed_at(2, monkeypatch, lambda: predict_once(tmp_path, "other", key="other"))
    assert [(tmp_path / name).read_text() for name in NAMES] == ["other", "first"]
    Record(tmp_path).merge()
    assert rows(tmp_path) == []
    predict_once(tmp_path, "first", key="first")
    assert [(tmp_path / name).read_text() for name in NAMES] == ["first", "first"]
    assert [row["key"] for row in rows(tmp_path)] == ["first"]


def test_a_strangers_file_is_kept_though_a_killed_call_wanted_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert killed_at(1, monkeypatch, lambda: predict_once(tmp_path))
    (tmp_path / NAMES[0]).write_text("drawn by hand")
    with pytest.raises(UserError, match="not made by a prediction"):
        predict_once(tmp_path)
    assert (tmp_path / NAMES[0]).read_text() == "drawn by hand"


def test_a_folder_in_the_place_of_a_result_is_a_strangers(tmp_path: Path):
    predict_once(tmp_path)
    (tmp_path / NAMES[0]).unlink()
    (tmp_path / NAMES[0]).mkdir()
    with pytest.raises(UserError, match="not made by a prediction"):
        predict_once(tmp_path)


def test_a_file_that_appears_while_a_case_is_segmented_is_kept(tmp_path: Path):
    record = Record(tmp_path)
    path = record.free("x", NAMES[0])
    with record.scratch() as scratch:
        (scratch / path.name).write_text("ours")
        path.write_text("drawn by hand")
        with pytest.raises(UserError, match="not made by a prediction"):
            record.add("x", "k", {"input": "x.png", "mask": path.name}, [scratch / path.name])
    assert path.read_text() == "drawn by hand"


def test_results_of_another_image_that_appear_while_a_case_is_segmented_are_kept(tmp_path: Path):
    """Two calls at once, into one folder."""
    record = Record(tmp_path)
    record.need_alone("x", "other/x.png", "", "", [NAMES[0]])
    predict_once(tmp_path)
    with record.scratch() as scratch:
        (scratch / NAMES[0]).write_text("b")
        with pytest.raises(UserError, match=r"other/x\.png would share .* image, x\.png, whose"):
            record.add("x", "k", {"input": "other/x.png"}, [scratch / NAMES[0]])
    assert (tmp_path / NAMES[0]).read_text() == "a"


def test_a_row_keeps_the_kinds_that_a_later_call_has_not_replaced(tmp_path: Path):
    predict_once(tmp_path)
    record = Record(tmp_path)
    with record.scratch() as scratch:
        (scratch / NAMES[0]).write_text("b")
        record.add("x", "m", {"input": "x.png", "mask": NAMES[0]}, [scratch / NAMES[0]])
    record.merge()
    assert [set(row) & {"mask", "uncertainty"} for row in rows(tmp_path)] == [
        {"uncertainty"},
        {"mask"},
    ]
    assert Record(tmp_path).finished("x", "k") is None
    assert Record(tmp_path).free("x", NAMES[1]) == tmp_path / NAMES[1]


@pytest.mark.parametrize("moment", [0, 1, 2, 9])
def test_results_of_a_version_without_records_are_ours(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also if the call that makes records of them is killed."""
    image = tmp_path / "bad.png"
    image.write_text("")
    content = {"version": "0.1.0", "predictions": [ROW], "failed": {str(image): "damaged"}}
    (tmp_path / "predictions.json").write_text(json.dumps(content))
    for name in NAMES:
        (tmp_path / name).write_text("old")
    earlier = ResultsOf([tmp_path])
    assert [name in earlier for name in (*NAMES, "bad.png", "x_votes.png")] == [1, 1, 0, 0]
    killed_at(moment, monkeypatch, lambda: Record(tmp_path).begin())
    record = Record(tmp_path)
    record.begin()
    record.merge()
    assert json.loads((tmp_path / "predictions.json").read_text()) == content
    predict_once(tmp_path)
    assert [row["key"] for row in rows(tmp_path)] == ["k"]


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"results": 3}', "\xff", ""])
def test_a_damaged_record_is_no_record(content: str, tmp_path: Path):
    predict_once(tmp_path)
    (tmp_path / ".cdal/records/x.json").write_text(content)
    (tmp_path / "predictions.json").write_text(content)
    with pytest.raises(UserError, match="not made by a prediction"):
        predict_once(tmp_path)


def failed(out: Path) -> dict[str, str]:
    return json.loads((out / "predictions.json").read_text())["failed"]


def test_failures_stay_until_their_input_is_tried_again(tmp_path: Path):
    """Those of an input that is not there are those of one call."""
    (tmp_path / "x.png").write_text("")
    path, out = str(tmp_path / "x.png"), tmp_path / "out"
    first, other = Record(out, "first"), Record(out, "other")
    first.fail("x", path, "damaged")
    first.fail("x", "gone/x.png", "is missing")
    first.merge()
    assert failed(out) == {path: "damaged", "gone/x.png": "is missing"}
    other.merge()
    assert failed(out) == {path: "damaged"}
    other.fail("x", path, "still damaged")
    other.merge()
    assert failed(out) == {path: "still damaged"}
    with other.scratch() as scratch:
        (scratch / "x_mask.png").write_text("a")
        other.add("x", "k", {"input": path, "mask": "x_mask.png"}, [scratch / "x_mask.png"])
    other.merge()
    assert (failed(out), other.rows) == ({}, 1)
    first.fail("x", path, "damaged", "of other options")
    assert first.finished("x", "k")
    assert not first.failed("x", path)


def test_an_input_with_which_two_workers_died_is_given_up(tmp_path: Path):
    record = Record(tmp_path)
    record.fail("x", "x.png", "one died", "k", deaths=1)
    assert record.given_up("x", "k") == ""
    record.fail("x", "x.png", "two died", "k", deaths=2)
    assert record.given_up("x", "k") == "two died"
    assert record.given_up("x", "other") == ""


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Record(tmp_path / "file" / "out").begin()
    Record(tmp_path / "out").begin()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".cdal"]


MANY = """
import sys
from pathlib import Path
from cdal.inference.record import Record

out, part = Path(sys.argv[1]), sys.argv[2]
record = Record(out)
record.begin()
for number in range(20):
    name = f"{part}{number}"
    with record.scratch() as scratch:
        path = scratch / record.free(name, f"{name}_mask.png").name
        path.write_text(name)
        record.add(name, name, {"input": name, "mask": path.name}, [path])
    record.merge()
"""


def test_two_calls_at_once_keep_all_rows(tmp_path: Path):
    """Each writes predictions.json after every case."""
    commands = [[sys.executable, "-c", MANY, str(tmp_path), part] for part in "ab"]
    calls = [subprocess.Popen(command) for command in commands]
    assert [call.wait() for call in calls] == [0, 0]
    names = {f"{part}{number}" for part in "ab" for number in range(20)}
    assert {row["input"] for row in rows(tmp_path)} == names
    assert {p.read_text() for p in tmp_path.glob("*_mask.png")} == names
    earlier = ResultsOf([tmp_path])
    assert all(f"{name}_mask.png" in earlier for name in names)
