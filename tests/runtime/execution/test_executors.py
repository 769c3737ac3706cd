"""One interface, three engines: every task has one outcome, whatever its worker does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from cdal.runtime.errors import UserError
from cdal.runtime.execution.executor import Executor, Here, Outcome, Task, about_deaths
from cdal.runtime.execution.ray_engine import RayWorkers
from cdal.runtime.execution.workers import LocalWorkers
from helpers.workers import Squares

needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
MANY = [
    pytest.param(lambda: LocalWorkers(2), id="processes"),
    pytest.param(lambda: RayWorkers(2), id="ray", marks=[needs_ray, pytest.mark.slow]),
]


def numbers(count: int) -> Iterator[Task]:
    return (Task(str(number), number) for number in range(count))


@pytest.mark.parametrize("engine", MANY)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_death_touches_only_its_task_which_is_tried_once_more(
    engine: Callable[[], Executor], tmp_path: Path
):
    work = Squares(tmp_path, deadly=(("3", 1), ("5", 9)), wrong=("4",))
    executor = engine()
    found = {out.task.name: out for out in executor.run(numbers(12), work)}
    assert executor.deaths == 3
    assert about_deaths(executor).startswith("3 workers have died")
    good = {str(n): n**2 for n in range(12) if n not in (4, 5)}
    assert {name: out.value for name, out in found.items() if not out.failure} == good
    assert found["4"].failure == "ValueError: wrong"
    assert "died twice" in found["5"].failure
    assert [(name, out.deaths) for name, out in sorted(found.items()) if out.deaths] == [
        ("3", 1),
        ("5", 2),
    ]
    assert [len(work.tries(str(n))) for n in range(12)] == [1, 1, 1, 2, 1, 2, *6 * [1]]
    assert len(set(work.tries("5"))) == 2
    assert os.getpid() not in {pid for n in range(12) for pid in work.tries(str(n))}


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cluster_that_was_started_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        assert [out.value for out in RayWorkers(1).run(numbers(2), Squares(tmp_path))] == [0, 1]
        assert list(Path(short).iterdir()) == []


def test_tasks_are_taken_as_they_are_needed(tmp_path: Path):
    taken: list[int] = []

    def tasks() -> Iterator[Task]:
        for number in range(1000):
            taken.append(number)
            yield Task(str(number), number)

    heard: list[str] = []
    run = LocalWorkers(2).run(tasks(), Squares(tmp_path), lambda task, said: heard.append(said))
    with closing(run) as outcomes:
        for _ in range(10):
            next(outcomes)
        assert len(taken) <= 10 + 2 * 2
    assert heard[0] in ("at 0", "at 1")
    assert len(list(tmp_path.iterdir())) <= 10 + 2 * 2


def test_workers_end_with_who_asked_for_them(tmp_path: Path):
    """As with Ctrl-C: what the workers are at is left."""

    def stop(task: Task, said: str) -> None:
        raise KeyboardInterrupt

    work = Squares(tmp_path, seconds=100)
    with pytest.raises(KeyboardInterrupt):
        list(LocalWorkers(1).run(numbers(3), work, stop))
    (pid,) = work.tries("0")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("engine", [Here, *MANY[:1]])
def test_a_worker_that_cannot_be_made_is_the_users_error(
    engine: Callable[[], Executor], tmp_path: Path
):
    with pytest.raises(UserError, match="there is no model"):
        list(engine().run(numbers(3), Squares(tmp_path, refuses=True)))


def test_in_this_process_tasks_are_done_in_order(tmp_path: Path):
    heard: list[object] = []
    work = Squares(tmp_path, wrong=("1",))
    found = list(Here().run(numbers(3), work, lambda task, said: heard.append(said)))
    assert found == [
        Outcome(Task("0", 0), 0),
        Outcome(Task("1", 1), failure="ValueError: wrong"),
        Outcome(Task("2", 2), 4),
    ]
    assert heard == ["at 0", "at 1", "at 2"]
    assert about_deaths(Here()) == ""
    with pytest.raises(ZeroDivisionError):  # an error of who listens is none of the task
        list(Here().run(numbers(3), work, lambda task, said: 1 / 0))


def test_the_number_of_workers_is_checked():
    with pytest.raises(UserError, match="it is 0"):
        LocalWorkers(0)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with pytest.raises(UserError, match=r"pip install 'cdal\[ray\]'"):
        RayWorkers(2)
