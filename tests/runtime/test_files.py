"""Files that appear whole or not at all, and what killed processes leave."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdal.runtime.errors import UserError
from cdal.runtime.files import (
    digest_of,
    new_folder,
    read_object,
    replacing,
    scratch_folder,
    sole_writer,
    taking_turns,
    wait_for_writer,
    write_text,
)

locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows locks files by other means")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("below", ["", "new", "new/newer"])
def test_what_fails_leaves_no_new_folder(below: str, tmp_path: Path):
    (tmp_path / "own").mkdir()
    for write in (replacing, new_folder):
        with pytest.raises(RuntimeError), write(tmp_path / below / "a"):
            raise RuntimeError
    with pytest.raises(RuntimeError), scratch_folder(tmp_path / below):
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["own"]
    with pytest.raises(RuntimeError), scratch_folder(tmp_path / below):
        (tmp_path / below / "kept.txt").write_text("whole")
        raise RuntimeError
    assert (tmp_path / below / "kept.txt").exists()


def by_a_file(folder: Path) -> None:
    write_text(folder / "new.txt", "")


def by_a_folder(folder: Path) -> None:
    with scratch_folder(folder):
        pass


def by_a_training(folder: Path) -> None:
    with sole_writer(folder):
        pass


@locks
@pytest.mark.parametrize("write", [by_a_file, by_a_folder, by_a_training])
def test_what_a_killed_process_left_is_deleted_by_the_next(
    write: Callable[[Path], None], tmp_path: Path
):
    (tmp_path / ".cdal-folder/inside").mkdir(parents=True)
    (tmp_path / ".cdal-folder/inside/file").write_text("half")
    (tmp_path / ".cdal-file.png").write_text("half")
    (tmp_path / "own.txt").write_text("whole")
    write(tmp_path)
    assert not list(tmp_path.glob(".cdal-*"))
    assert (tmp_path / "own.txt").read_text() == "whole"


@pytest.mark.parametrize("name", ["taken", "taken/inside"])
@pytest.mark.parametrize("write", [by_a_file, by_a_folder, by_a_training, wait_for_writer])
def test_a_file_in_the_place_of_a_folder_has_one_wording(
    write: Callable[[Path], None], name: str, tmp_path: Path
):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserError) as told:
        write(tmp_path / name)
    assert str(told.value).startswith(f"{tmp_path / name}")
    assert "cannot be written: " in str(told.value)
    assert str(told.value).endswith("A file is in the place of a folder. Choose another folder.")
    assert (tmp_path / "taken").read_text() == "mine"


@locks
def test_a_call_that_is_refused_deletes_what_one_has_left_that_was_killed_when_all_was_done(
    tmp_path: Path,
):
    (tmp_path / ".cdal-folder").mkdir()
    (tmp_path / "made").mkdir()
    (tmp_path / "made/own.txt").write_text("whole")
    with pytest.raises(UserError, match="nothing was changed"), new_folder(tmp_path / "made"):
        pass
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "made",
        "made/own.txt",
    ]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "made") as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "made") as folder:
        (folder / "a.txt").write_text("whole")
        (folder.parent / "b.txt").write_text("scratch")
    assert [p.name for p in sorted(tmp_path.rglob("*"))] == ["made", "a.txt"]


def test_a_file_that_cannot_be_read_now_is_not_taken_for_a_missing_one(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "b.json") == read_object(tmp_path / "a.json/b") == {}
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            read_object(tmp_path / "a.json")
        with pytest.raises(UserError, match="Raise the limit of open files"):
            write_text(tmp_path / "c.txt", "")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert read_object(tmp_path / "a.json") == {"a": 1}


@locks
def test_a_writer_that_ends_is_waited_for(tmp_path: Path):
    ended = threading.Event()

    def write() -> None:
        with sole_writer(tmp_path):
            begun.set()
            time.sleep(0.2)
            ended.set()

    begun = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    wait_for_writer(tmp_path)
    assert ended.is_set()
    writer.join()
    with sole_writer(tmp_path):
        pass


WRITE = """
import sys
from pathlib import Path
from cdal.runtime.files import replacing, scratch_folder

folder = Path(sys.argv[1])
with replacing(folder / "a.txt") as file, scratch_folder(folder) as scratch:
    file.write_text("a")
    (scratch / "b").write_text("b")
    print("ready", flush=True)
    sys.stdin.read(1)
    assert (scratch / "b").read_text() == "b"
"""


@locks
def test_what_another_process_is_writing_stays(tmp_path: Path):
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        write_text(tmp_path / "c.txt", "c")
        assert len(list(tmp_path.glob(".cdal-*"))) == 2
        other.communicate("x")
    assert other.returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "c.txt"}


@locks
def test_what_another_machine_writes_stays_for_a_day(tmp_path: Path):
    """Some file systems of clusters tell nothing of the locks of other machines."""
    for name, age in (("12345678-new", 0), ("12345678-old", 100_000), ("own", 0)):
        (tmp_path / f".cdal-{name}").write_text("half")
        moment = time.time() - age
        os.utime(tmp_path / f".cdal-{name}", (moment, moment))
    write_text(tmp_path / "a.txt", "a")
    assert {p.name for p in tmp_path.iterdir()} == {".cdal-12345678-new", "a.txt"}


def test_a_lock_that_is_held_for_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cdal.runtime.files._WAIT", 0.0)
    with (
        taking_turns(tmp_path / "lock"),
        pytest.raises(UserError, match="another process"),
        taking_turns(tmp_path / "lock"),
    ):
        pass


def test_the_digest_tells_where_a_file_ends(tmp_path: Path):
    for name, text in (("a", "12"), ("b", "3"), ("c", "1"), ("d", "23")):
        (tmp_path / name).write_text(text)
    first, second = (digest_of(tmp_path / a, tmp_path / b) for a, b in ("ab", "cd"))
    assert first != second
    assert digest_of(tmp_path / "a") == hashlib.sha256(b"2 12").hexdigest()
