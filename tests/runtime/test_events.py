"""Progress of long work."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.datasets.cases import load_cases
from cdal.datasets.check import check_folder
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.events import Event, silent
from helpers.recipes import small_recipe


def test_work_reports_each_item_until_all_are_done(phantoms: Path, trained: Path, tmp_path: Path):
    events: list[Event] = []
    folder = check_folder(phantoms, events.append).folder
    load_cases(folder.cases[:3], folder, small_recipe().data, events.append)
    predict(
        trained,
        [case.image for case in folder.cases[:2]],
        tmp_path,
        Sampling(votes=1),
        report=events.append,
    )
    by_task = {
        task: [event for event in events if event.task == task]
        for task in ("checking", "reading", "segmenting")
    }
    assert sum(map(len, by_task.values())) == len(events)
    for (task, found), total in zip(by_task.items(), (16, 3, 2), strict=True):
        assert {event.total for event in found} == {total}, task
        done = [event.done for event in found]
        assert done == sorted(done)
        assert done[-1] == total
        assert len({event.name for event in found}) == total


def test_what_a_report_raises_ends_the_work(phantoms: Path):
    """So may whoever watches, as a server whose client is gone."""

    def gone(event: Event) -> None:
        if event.done >= 2:
            raise ConnectionError(event.name)

    with pytest.raises(ConnectionError, match="phantom_"):
        check_folder(phantoms, gone)


def test_silence_takes_any_event():
    assert silent(Event("checking", "a", 1, 2)) is None
