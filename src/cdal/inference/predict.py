"""From files on disk to masks on disk, on the files' own grids."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cdal.imaging.formats.slide import SLIDES
from cdal.imaging.regions import open_regions
from cdal.imaging.rows import LARGE, InMemory
from cdal.inference.inputs import Input, find_inputs
from cdal.inference.load import load
from cdal.inference.outputs import OUTPUTS, write_by_region, write_outputs
from cdal.inference.predictor import Predictor, need_votes
from cdal.inference.record import Record, read_record, results_of
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Written:
    """What `predict` did.

    Attributes:
        done: one row for each input that was segmented, as in `predictions.json`.
        failed: a message for each that was not.
        passed_over: files in folders that are results of earlier predictions.
    """

    done: list[dict[str, Any]]
    failed: dict[str, str]
    passed_over: int = 0


def predict(
    model: Path | str,
    inputs: Collection[Path | str],
    out: Path | str,
    votes: int | None = None,
    seed: int = 0,
    save: Collection[str] = ("mask",),
    timesteps: int | None = None,
    device: str = "auto",
    on_progress: Callable[[str, int], object] = lambda _name, _count: None,
    series: str | None = None,
    on_part: Callable[[str, float], object] = lambda _name, _share: None,
    mirror: bool | None = None,
    components: int | None = None,
    temperature: float | None = None,
) -> Written:
    """Segment files and write the masks, each in its input's own format and geometry, and `predictions.json`.

    An input that cannot be used is reported and the others are done. A result of an earlier prediction is replaced; any other file
    of that name is not.

    Args:
        model: see `load`.
        inputs: files, folders of files, or folders with a DICOM series.
        out: the folder for the results.
        votes: V; the recipe's number where none is given.
        seed: of every random draw.
        save: among mask, probability, uncertainty, votes, overlay, instances, geojson; see `cdal.inference.outputs`.
        timesteps: see `load`.
        device: see `load`.
        on_progress: called after each input with its name and the number of all inputs.
        series: number, description or UID of the DICOM series to take from a folder with several.
        on_part: called after each part of a large picture with its name and the share that is done.
        mirror: see `load`.
        components: see `load`.
        temperature: see `load`.

    Raises:
        UserError: the model, the folder for results or a number cannot be used, or two inputs would share a result.
    """
    out = Path(out)
    unknown = [name for name in save if name not in OUTPUTS]
    if unknown or not save:
        raise UserError(f"nothing called {', '.join(unknown) or '(none)'} can be saved. Expected some of {', '.join(OUTPUTS)}.")
    if votes is not None:
        need_votes(votes)
    results = {name for path in map(Path, inputs) for row in read_record(path) for name in results_of(row)}
    predictor = load(model, timesteps, device, mirror, components, temperature)
    chosen, failed = find_inputs(inputs, results, series, predictor.header.image_channels)
    passed_over = sum((path / name).is_file() for path in {Path(path) for path in inputs} for name in results)
    record = Record(out, failed)
    record.write()  # an unwritable folder is found before the work, not after
    for one in chosen:
        try:
            row = _segment(predictor, one, record, votes, seed, save, partial(on_part, one.path.name))
        except (UserError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            failed[str(one.path)] = str(error) if isinstance(error, UserError) else f"{one.path}: not enough memory ({error})."
        else:
            record.add({"model": str(model), **row})
        record.write()
        on_progress(one.path.name, len(chosen))
    return Written(record.done, failed, passed_over)


def _segment(
    predictor: Predictor,
    one: Input,
    record: Record,
    votes: int | None,
    seed: int,
    save: Collection[str],
    on_part: Callable[[float], object],
) -> dict[str, Any]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=record.out, prefix=".cdal-") as scratch, open_regions(one.path, Path(scratch)) as opened:
        regions, image = opened, None
        if regions is None or not (predictor.streams(regions.shape) or one.path.suffix.lower() in SLIDES):
            image = one.read()
            large = len(image.shape) == 2 and math.prod(image.shape) > LARGE and predictor.streams(image.shape)
            regions = InMemory(image) if large else None
        if regions is not None:
            written = write_by_region(predictor, regions, one, record.free, votes, seed, save, Path(scratch), on_part)
        else:
            assert image is not None  # one of the two
            prediction = predictor.predict(image, votes, seed, one.name, keep_votes="votes" in save, name=str(one.path))
            written = write_outputs(prediction, predictor, one, record.free, save)
    return {
        "input": str(one.path),
        **written,
        **predictor.about(),
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 3),
    }
