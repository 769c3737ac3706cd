"""Segment many inputs with an executor: what becomes of each, progress, and the merged record."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cdal.inference.case import Made, Wanted
from cdal.inference.input_tables import is_table
from cdal.inference.inputs import (
    APART,
    Input,
    Lister,
    Refused,
    about_how_many,
    need_distinct,
)
from cdal.inference.outputs import OUTPUTS
from cdal.inference.record import Record, ResultsOf
from cdal.inference.shards import Shard, Shares, number_of
from cdal.runtime.errors import UserError
from cdal.runtime.events import Pace, Report
from cdal.runtime.execution.executor import Executor, MakeWorker, Outcome, Task
from cdal.segmenters.model_header import ModelHeader

_WINDOW = 200
"""Inputs whose times give the rate."""

_LOOKED_AT = 1000
"""Paths without an image that are looked at before one is written down as failed."""


@dataclass(frozen=True)
class Predicted:
    """What became of an input.

    Attributes:
        path: the input.
        made: its results; `None` if it failed.
        failure: message for the user if it failed.
    """

    path: str
    made: Made | None
    failure: str = ""


class Call:
    """One call that segments inputs into a folder.

    Args:
        header: header of the model.
        inputs: files, folders, or tables that list them.
        wanted: what is wanted of every input.
        series: number, description or UID of the DICOM series, for folders that hold several.
        stream: whether to list the inputs as they are needed, however many there are. Of two that
            would share a result the second then fails; else they are refused before the work.
        shard: the part of the inputs to take; `None` for all.

    Attributes:
        lister: knows how many files were passed over.
        empty: whether no path stands for an image; then nothing is written.
        shares: knows how many inputs there were so far, and how many of them in the shard.
        record: the records of the folder; knows how many rows `predictions.json` has.

    Raises:
        UserError: a kind of results is unknown, or two inputs would share one.
    """

    def __init__(
        self,
        header: ModelHeader,
        inputs: Collection[Path | str],
        wanted: Wanted,
        series: str | None = None,
        stream: bool = False,
        shard: Shard | None = None,
    ) -> None:
        need_outputs(wanted.save)
        self.shares = Shares(shard or Shard(1, 1))
        self.record = Record(wanted.out, wanted.call)
        self.lister = Lister(
            ResultsOf(list(map(Path, inputs))), series, header.image_channels, header.channel_files
        )
        self._inputs = inputs
        listed = self.lister(inputs)
        first = _up_to_an_image(listed)
        self.empty = len(first) < _LOOKED_AT and not any(isinstance(one, Input) for one in first)
        sources = itertools.chain(first, listed)
        self._sources = sources if self.empty else self.shares(sources)
        if stream:
            self._sources = _distinct(self._sources, wanted.save)
            total = about_how_many(inputs)
            self._total = None if total is None else math.ceil(total / self.shares.shard.count)
        else:
            taken = list(self._sources)
            need_distinct(source for source in taken if isinstance(source, Input))
            self._sources, self._total = iter(taken), len(taken)

    def run(
        self, executor: Executor, make_worker: MakeWorker, report: Report
    ) -> Generator[Predicted, None, None]:
        """Segment the inputs, once, and yield what becomes of each as soon as it is known.

        `predictions.json` is merged now and then, and at the end, however it comes. If no path
        stands for an image, nothing is written.

        Args:
            executor: has the inputs segmented.
            make_worker: makes a `cdal.inference.case.CaseWorker`, or one that returns less.
            report: receives the progress, counted in inputs.

        Raises:
            UserError: the folder cannot be written, or no worker can be made.
        """
        if self.empty:
            yield from _failed(deque(one for one in self._sources if isinstance(one, Refused)))
            return
        self.record.begin(self._inputs)
        progress, refused = _Progress(report, self._total), deque[Refused]()
        try:
            tasks = _tasks(self._sources, self.record, refused, progress)
            with closing(executor.run(tasks, make_worker, progress.heard)) as outcomes:
                for outcome in outcomes:
                    yield from _failed(refused)
                    yield self._predicted(outcome)
                    self.record.merge(now=False)
                    progress.finished(outcome.task, bool(outcome.failure))
            yield from _failed(refused)
        finally:
            self.record.merge()

    def _predicted(self, outcome: Outcome) -> Predicted:
        source: Input = outcome.task.content
        path, failure = str(source.path), outcome.failure
        if failure and outcome.deaths > 1:
            failure = f"{path}: {failure}"
            if not self.record.failed(source.name, path):  # no worker came so far
                self.record.fail(source.name, path, failure)
        return Predicted(path, None if failure else outcome.value, failure)


def _up_to_an_image(sources: Iterator[Input | Refused]) -> list[Input | Refused]:
    """The first sources, up to an image if one is among them."""
    first = list[Input | Refused]()
    for source in itertools.islice(sources, _LOOKED_AT):
        first.append(source)
        if isinstance(source, Input):
            break
    return first


def _distinct(
    sources: Iterable[Input | Refused], save: Collection[str]
) -> Iterator[Input | Refused]:
    """Refuse each input whose results could be those of an input before it.

    Masks have the suffix of their image; other results may not.
    """
    before: set[int] = set()
    for source in sources:
        if isinstance(source, Input):
            by_suffix = set(save) <= {"mask"}
            name = f"{source.name}{source.suffix}" if by_suffix else source.name
            number = number_of(name)
            if number in before:
                yield Refused(
                    source.path,
                    source.name,
                    f"{source.path} would share the name {source.name} of its results with an "
                    f"input before it. {APART}",
                )
                continue
            before.add(number)
        yield source


def need_outputs(save: Collection[str]) -> None:
    """Refuse unknown kinds of results.

    Raises:
        UserError: a kind is unknown, or there is none.
    """
    unknown = [name for name in save if name not in OUTPUTS]
    if unknown or not save:
        raise UserError(
            f"nothing called {', '.join(unknown) or '(none)'} can be saved. Expected some of "
            f"{', '.join(OUTPUTS)}."
        )


def call_of(inputs: Iterable[Path | str]) -> str:
    """What tells a call from others: its inputs, and the state of the tables among them."""
    content: list[list[object]] = []
    for path in map(Path, inputs):
        state = path.stat() if is_table(path) and path.is_file() else None
        content.append([str(path), *((state.st_mtime_ns, state.st_size) if state else ())])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _tasks(
    sources: Iterable[Input | Refused],
    record: Record,
    refused: deque[Refused],
    progress: _Progress,
) -> Iterator[Task]:
    for source in sources:
        if isinstance(source, Input):
            yield Task(source.path.name, source)
        else:
            record.fail(source.name, str(source.path), source.message)
            refused.append(source)
            progress.refused()


def _failed(refused: deque[Refused]) -> Iterator[Predicted]:
    while refused:
        one = refused.popleft()
        yield Predicted(str(one.path), None, one.message)


class _Progress:
    """Reports how far the inputs are."""

    def __init__(self, report: Report, total: int | None) -> None:
        self._report, self._total = report, total
        self._done = self._failed = 0
        self._shares: dict[int, float] = {}
        self._times: deque[float] = deque([time.monotonic()], maxlen=_WINDOW)

    def refused(self) -> None:
        """A path stands for no image."""
        self._done += 1
        self._failed += 1

    def heard(self, task: Task, share: float) -> None:
        """A worker tells the finished share of its input."""
        self._shares[id(task.content)] = share
        self._tell(task)

    def finished(self, task: Task, failed: bool) -> None:
        """An input is done, or has failed."""
        self._shares.pop(id(task.content), None)
        self._done += 1
        self._failed += failed
        self._times.append(time.monotonic())
        self._tell(task)

    def _tell(self, task: Task) -> None:
        spent = self._times[-1] - self._times[0]
        rate = (len(self._times) - 1) / spent if spent > 0 else 0.0
        left = None
        if rate and self._total is not None:
            left = max(0, self._total - self._done) / rate
        done = self._done + sum(self._shares.values())
        self._report(Pace("segmenting", task.name, done, self._total, "", rate, self._failed, left))
