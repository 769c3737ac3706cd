"""Segment one input, and write the results on its grid. All ways to run over many share this."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.rows import LARGE
from cdal.inference.footprint import need_room
from cdal.inference.graph_engine import GRAPHS
from cdal.inference.inputs import Input
from cdal.inference.outputs import OUTPUTS, Result, need_possible, paths_of
from cdal.inference.predictor import Predictor
from cdal.inference.record import Record
from cdal.inference.segmented import Segmented
from cdal.recipes.recipe import to_dict
from cdal.runtime.errors import UserError
from cdal.runtime.execution.dealing import TWICE
from cdal.runtime.execution.executor import Task, Tell
from cdal.runtime.files import digest_of
from cdal.runtime.memory import is_shortage
from cdal.runtime.os_errors import remedy, told_as
from cdal.runtime.version import revision
from cdal.segmenters.trust import own_networks

_ELSEWHERE = (".mhd", ".nhdr", ".mrxs", ".vms", ".vmu")
"""Suffixes of files whose numbers may be in other files."""


@dataclass(frozen=True)
class Made:
    """The results of an input.

    Attributes:
        row: its row of `predictions.json`, or a part of it.
        earlier: whether an earlier, same call has made them.
    """

    row: dict[str, Any]
    earlier: bool


@dataclass(frozen=True)
class Wanted:
    """What a call wants of every input.

    Attributes:
        out: folder of the results.
        save: kinds of results, see `cdal.inference.outputs.OUTPUTS`.
        call: what tells the call from others, see `Record`.
        retry: whether to try inputs again with which two workers have died.
    """

    out: Path
    save: tuple[str, ...]
    call: str = ""
    retry: bool = False


class CaseWorker:
    """Segments one input after the other; a worker as of `cdal.runtime.execution.executor`.

    Args:
        predictor: the model.
        wanted: what is wanted of every input.
    """

    def __init__(self, predictor: Predictor, wanted: Wanted) -> None:
        self._predictor, self._wanted = predictor, wanted
        self._record = Record(wanted.out, wanted.call)
        self._decided = _decided(predictor, wanted.save)

    def __call__(self, task: Task, tell: Tell) -> Made:
        """Segment the input that is the content of a task, unless the same call has done so before.

        Args:
            task: the task.
            tell: receives the finished share of the input.

        Raises:
            UserError: why there are no results, whatever the reason is.
        """
        source: Input = task.content
        path, key = str(source.path), ""
        when = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            digest = digest_of_input(source)
            key = _key(source, self._decided, digest)
            if (row := self._record.finished(source.name, key)) is not None:
                return Made(row, earlier=task.attempt == 1)
            self._need_hope(source, key, task.attempt)
            with self._record.scratch() as scratch:
                row, made = _segment(
                    self._predictor, source, digest, self._record, self._wanted.save, scratch, tell
                )
                # The time is that of the bytes, not of the results.
                row = {"model": self._predictor.name, **row, "input_digest": digest, "when": when}
                self._record.add(source.name, key, row, made)
            return Made(row, earlier=False)
        except _GivenUpError:  # its record stays as it is
            raise
        except Exception as error:  # no input may stop the others
            message = explained(path, error)
            with suppress(UserError):  # where nothing can be written, the message is told
                self._record.fail(source.name, path, message, key)
            raise UserError(message) from error
        except BaseException:  # told to end, which is not the fault of this input
            if task.attempt > 1:
                self._record.clear(source.name, path)
            raise

    def _need_hope(self, source: Input, key: str, attempt: int) -> None:
        """Refuse an input with which two workers have died, now or in an earlier, same call."""
        if not self._wanted.retry and (why := self._record.given_up(source.name, key)):
            raise _GivenUpError(why)
        if attempt > 1:  # recorded now, because this process may be the next that dies
            path = str(source.path)
            self._record.fail(source.name, path, f"{path}: {TWICE}", key, deaths=attempt)


class _GivenUpError(UserError):
    """Two workers have died with an input."""


def _decided(predictor: Predictor, save: Collection[str]) -> str:
    """What decides the results of every input, as JSON; empty if that is not known.

    The code of a network of your own may change between two calls.
    """
    if not predictor.files or own_networks(predictor.recipe):
        return ""
    beside = [
        path.with_suffix(suffix)
        for path in predictor.files
        for suffix in (".json", ".bin")
        if path.suffix in GRAPHS.values()
    ]
    engine = predictor.engine.about()
    return json.dumps(
        {
            "version": revision(),
            "model": [
                predictor.name,
                digest_of(*predictor.files, *(p for p in beside if p.is_file())),
            ],
            "recipe": to_dict(predictor.recipe),
            "votes": predictor.votes,
            "temperature": predictor.temperature,
            "seed": predictor.sampling.seed,
            "judged": [predictor.sampling.review_below, predictor.sampling.strict],
            "skip": predictor.sampling.skip,
            "engine": [engine.get("device"), engine.get("precision")],
            "save": sorted(save),
        },
        sort_keys=True,
    )


def _key(source: Input, decided: str, digest: str) -> str:
    """Checksum of what decides the results of an input; empty if that is not known."""
    if not decided or not digest:
        return ""
    content = json.dumps([decided, source.name, source.suffix, str(source.path), digest])
    return hashlib.sha256(content.encode()).hexdigest()


def digest_of_input(source: Input) -> str:
    """Checksum of the bytes of an input; empty if they are not all in its files."""
    files = source.files or (source.path,)
    if any(path.suffix.lower() in _ELSEWHERE for path in files):
        return ""
    if not all(path.is_file() for path in files):  # a pipe may never end
        return ""
    try:
        return digest_of(*files)
    except OSError:  # reading the image says what is wrong
        return ""


def explained(name: str, error: Exception) -> str:
    """Message for the user about an image that failed, whatever the error is."""
    if isinstance(error, UserError):
        return str(error) if name in str(error) else f"{name}: {error}"
    if is_shortage(error):
        return f"{name}: not enough memory ({error}). Close other programs, or crop the image."
    if isinstance(error, OSError):
        return f"{name}: {error}. {remedy(error)}"
    return (
        f"{name} cannot be segmented: {type(error).__name__}: {error}. Is the file complete? "
        "If it is, please report this."
    )


def _segment(
    predictor: Predictor,
    source: Input,
    digest: str,
    record: Record,
    save: Collection[str],
    scratch: Path,
    tell: Tell,
) -> tuple[dict[str, Any], list[Path]]:
    """Segment one input; returns its row of the record, and its results in the scratch folder."""
    began = time.perf_counter()
    name = str(source.path)
    with source.open(scratch, predictor.header.image_channels) as image:
        frame = predictor.frame(image, name)
        need_possible(save, frame.own, name, predictor.votes * len(predictor.header.classes))
        places = paths_of(source, image.like, save, lambda file: record.free(source.name, file))
        files = [path.name for path in places.values()]
        record.need_alone(source.name, name, source.series, digest, files)
        (scratch / "made").mkdir()
        paths = {kind: scratch / "made" / path.name for kind, path in places.items()}
        keep = {need for kind in save for need in OUTPUTS[kind].needs}
        large = math.prod(frame.own) > LARGE
        classes, components = predictor.header.classes, predictor.recipe.data.components
        later = predictor.decides_later
        by_votes = predictor.votes if later else None
        need_room(frame, predictor.recipe, len(classes), predictor.votes, keep, name, False, later)
        segmented = Segmented(
            frame, len(classes), components, keep, scratch if large else None, by_votes
        )
        signs = segmented.signs
        for band in predictor.bands(
            frame, source.name, name, keep_votes="votes" in save, signs=signs
        ):
            segmented.take(band)
            if segmented.mask.count < frame.own[0]:
                tell(segmented.mask.count / frame.own[0])
        segmented.finish(predictor.temperature)
        result = Result(segmented, image.like, classes, predictor.recipe.name, [])
        with told_as(scratch / "made", record.out):
            # In this order, because the polygons are those of the instances.
            for kind, output in OUTPUTS.items():
                if kind in save:
                    output.write(paths[kind], result)
    inside = int(signs.voxels[1:].sum())
    voxel = float(np.prod(image.like.spacing))
    row = {
        "input": name,
        **({"series": source.series} if source.series else {}),
        **{kind: path.name for kind, path in paths.items()},
        "volume": {k: voxel * int(n) for k, n in zip(classes[1:], signs.voxels[1:], strict=True)},
        "unit": "pixels" if image.like.affine is None else "mm3",
        "mean_uncertainty": segmented.uncertain / max(1, inside),
        **({"skipped": round(signs.skipped, 4)} if signs.skipped else {}),
        **predictor.judge.verdict(signs, image.like),
        "vote_count": predictor.votes,
        **predictor.about(),
        "seed": predictor.sampling.seed,
        "seconds": round(time.perf_counter() - began, 3),
    }
    return row, list(paths.values())
