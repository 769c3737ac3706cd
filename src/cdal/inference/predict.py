"""Segment files, and write the results on the grids of these files."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.rows import LARGE
from cdal.inference.footprint import need_room
from cdal.inference.graph_engine import GRAPHS
from cdal.inference.inputs import Input, find_inputs
from cdal.inference.load import load
from cdal.inference.outputs import OUTPUTS, Result, need_possible, paths_of
from cdal.inference.predictor import Predictor
from cdal.inference.record import Record, earlier_results
from cdal.inference.sampling import Sampling
from cdal.inference.segmented import Segmented
from cdal.recipes.baselines import OwnSettings
from cdal.recipes.recipe import to_dict
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import digest_of
from cdal.runtime.memory import is_shortage
from cdal.runtime.version import revision

_ELSEWHERE = (".mhd", ".nhdr", ".mrxs", ".vms", ".vmu")
"""Suffixes of files whose numbers may be in other files."""


@dataclass(frozen=True)
class Written:
    """Outcome of `predict`.

    Attributes:
        done: one row for each segmented input, as in `predictions.json`.
        failed: error message of each input that failed, by its path.
        passed_over: number of files in the input folders that were skipped as earlier results.
        earlier: number of rows in `done` whose results an earlier, same call has made.
    """

    done: list[dict[str, Any]]
    failed: dict[str, str]
    passed_over: int = 0
    earlier: int = 0


def predict(
    model: Path | str | Sequence[Path | str] | Predictor,
    inputs: Collection[Path | str],
    out: Path | str,
    sampling: Sampling | None = None,
    save: Collection[str] = ("mask",),
    series: str | None = None,
    report: Report = silent,
) -> Written:
    """Segment files and write the results, each in the format and geometry of its input.

    An input that fails is reported, and the others are segmented. Results of an earlier prediction
    are replaced; other files of the same name are kept, and their input fails. `predictions.json`
    records how the results were made.

    A call that was interrupted is finished by the same call: an input is passed over if the same
    model has made its results from the same bytes with the same options. Several calls may write
    into one folder at once.

    Args:
        model: a model or several as for `load`, or a predictor.
        inputs: files, folders of files, or folders with a DICOM series.
        out: folder for the results.
        sampling: options of sampling; those of the model's recipe if `None`. A predictor has its
            own.
        save: some of mask, probability, uncertainty, votes, overlay, instances, geojson, rtstruct;
            see `cdal.inference.outputs.OUTPUTS`.
        series: number, description or UID of the DICOM series, for folders that hold several.
        report: receives the progress, counted in inputs.

    Raises:
        UserError: the model, the output folder or an option cannot be used, or two inputs would
            have the same result.
    """
    out = Path(out)
    unknown = [name for name in save if name not in OUTPUTS]
    if unknown or not save:
        raise UserError(
            f"nothing called {', '.join(unknown) or '(none)'} can be saved. Expected some of "
            f"{', '.join(OUTPUTS)}."
        )
    results = {name for path in map(Path, inputs) for name in earlier_results(path)}
    predictor = predictor_of(model, sampling)
    header = predictor.header
    chosen, failed = find_inputs(
        inputs, results, series, header.image_channels, header.channel_files
    )
    passed_over = sum(
        (path / name).is_file() for path in {Path(path) for path in inputs} for name in results
    )
    record = Record(out, failed)
    record.merge(failed)  # fails now, and not after the work, if the folder cannot be written
    decided = _decided(predictor, save)
    earlier = 0
    stops: list[Exception] = []
    try:
        for number, source in enumerate(chosen):

            def part(share: float, number: int = number, name: str = source.path.name) -> None:
                try:
                    report(Event("segmenting", name, number + share, len(chosen)))
                except Exception as error:
                    stops.append(error)
                    raise

            try:
                earlier += _predict_one(predictor, source, record, save, decided, part)
            except Exception as error:  # no input may stop the others, only the caller may
                if error in stops:
                    raise
                failed[str(source.path)] = explained(str(source.path), error)
            record.merge([str(source.path)], now=False)
            part(1.0)
    finally:
        record.merge()
    return Written(record.done, failed, passed_over, earlier)


def predictor_of(
    model: Path | str | Sequence[Path | str] | Predictor, sampling: Sampling | None
) -> Predictor:
    """Load a model, unless it is a predictor already.

    Raises:
        UserError: as `load`, or other options of sampling were given with a predictor.
    """
    if not isinstance(model, Predictor):
        return load(model, sampling)
    if sampling not in (None, model.sampling):
        raise UserError("a predictor has its own sampling: give it to cdal.load.")
    return model


def _predict_one(
    predictor: Predictor,
    source: Input,
    record: Record,
    save: Collection[str],
    decided: str,
    part: Callable[[float], object],
) -> bool:
    """Segment one input, unless the same call has done so before; returns whether it has."""
    case, began = f"{source.name}{source.suffix}", datetime.now().astimezone()
    digest = digest_of_input(source)
    key = _key(source, decided, digest)
    if (row := record.finished(case, key)) is not None:
        record.pass_over(row)
        return True
    with record.scratch() as scratch:
        row, made = _segment(predictor, source, record, save, scratch, part)
        when = began.isoformat(timespec="seconds")  # of the bytes, not of the results
        row = {"model": predictor.name, **row, "input_digest": digest, "when": when}
        record.add(case, key, row, made)
    return False


def _decided(predictor: Predictor, save: Collection[str]) -> str:
    """What decides the results of every input, as JSON; empty if that is not known.

    The code of a network of your own may change between two calls.
    """
    own = any(isinstance(settings, OwnSettings) for settings in predictor.recipe.segmenter.parts)
    if not predictor.files or own:
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
        return f"{name}: {error}. Is the disk full, or a folder not readable or writable?"
    return (
        f"{name} cannot be segmented: {type(error).__name__}: {error}. Is the file complete? "
        "If it is, please report this."
    )


def _segment(
    predictor: Predictor,
    source: Input,
    record: Record,
    save: Collection[str],
    scratch: Path,
    part: Callable[[float], object],
) -> tuple[dict[str, Any], list[Path]]:
    """Segment one input; returns its row of the record, and its results in the scratch folder."""
    began = time.perf_counter()
    name, case = str(source.path), f"{source.name}{source.suffix}"
    with source.open(scratch, predictor.header.image_channels) as image:
        frame = predictor.frame(image, name)
        need_possible(save, frame.own, name, predictor.votes * len(predictor.header.classes))
        places = paths_of(source, image.like, save, lambda file: record.free(case, file))
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
                part(segmented.mask.count / frame.own[0])
        segmented.finish(predictor.temperature)
        result = Result(segmented, image.like, classes, predictor.recipe.name, [])
        for (
            kind,
            output,
        ) in OUTPUTS.items():  # in this order, because the polygons are those of the instances
            if kind in save:
                output.write(paths[kind], result)
    inside = int(signs.voxels[1:].sum())
    voxel = float(np.prod(image.like.spacing))
    row = {
        "input": name,
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
