"""Segment files, and write the results on the grids of these files."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.rows import LARGE
from cdal.inference.inputs import Input, find_inputs
from cdal.inference.load import load
from cdal.inference.outputs import OUTPUTS, Result, need_possible, paths_of
from cdal.inference.predictor import Predictor
from cdal.inference.record import Record, earlier_results
from cdal.inference.sampling import Sampling
from cdal.inference.segmented import Segmented
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent


@dataclass(frozen=True)
class Written:
    """Outcome of `predict`.

    Attributes:
        done: one row for each segmented input, as in `predictions.json`.
        failed: error message of each input that failed, by its path.
        passed_over: number of files in the input folders that were skipped as earlier results.
    """

    done: list[dict[str, Any]]
    failed: dict[str, str]
    passed_over: int = 0


def predict(
    model: Path | str | Predictor,
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

    Args:
        model: a model as for `load`, or a predictor.
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
    record.write()  # fails now, and not after the work, if the folder cannot be written
    for number, one in enumerate(chosen):

        def part(share: float, number: int = number, name: str = one.path.name) -> None:
            report(Event("segmenting", name, number + share, len(chosen)))

        try:
            row = _segment(predictor, one, record, save, part)
        except (UserError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            failed[str(one.path)] = (
                str(error)
                if isinstance(error, UserError)
                else f"{one.path}: not enough memory ({error})."
            )
        else:
            record.add({"model": predictor.name, **row})
        record.write()
        part(1.0)
    return Written(record.done, failed, passed_over)


def predictor_of(model: Path | str | Predictor, sampling: Sampling | None) -> Predictor:
    """Load a model, unless it is a predictor already.

    Raises:
        UserError: as `load`, or other options of sampling were given with a predictor.
    """
    if not isinstance(model, Predictor):
        return load(model, sampling)
    if sampling not in (None, model.sampling):
        raise UserError("a predictor has its own sampling: give it to cdal.load.")
    return model


def _segment(
    predictor: Predictor,
    one: Input,
    record: Record,
    save: Collection[str],
    part: Callable[[float], object],
) -> dict[str, Any]:
    """Segment one input, write its results, and return its row of the record."""
    began = time.perf_counter()
    name = str(one.path)
    with (
        tempfile.TemporaryDirectory(dir=record.out, prefix=".cdal-") as folder,
        one.open(Path(folder)) as image,
    ):
        frame = predictor.frame(image, name)
        need_possible(save, frame.own, name, predictor.votes * len(predictor.header.classes))
        paths = paths_of(one, image.like, save, record.free)
        keep = {need for kind in save for need in OUTPUTS[kind].needs}
        large = math.prod(frame.own) > LARGE
        classes, components = predictor.header.classes, predictor.recipe.data.components
        segmented = Segmented(
            frame, len(classes), components, keep, Path(folder) if large else None
        )
        for band in predictor.bands(frame, one.name, name, keep_votes="votes" in save):
            segmented.take(band)
            if segmented.mask.count < frame.own[0]:
                part(segmented.mask.count / frame.own[0])
        segmented.finish()
        result = Result(segmented, image.like, classes, predictor.recipe.name, [])
        for (
            kind,
            output,
        ) in OUTPUTS.items():  # in this order, because the polygons are those of the instances
            if kind in save:
                output.write(paths[kind], result)
    inside = int(segmented.voxels[1:].sum())
    return {
        "input": name,
        **{kind: path.name for kind, path in paths.items()},
        "volume": {
            k: float(np.prod(image.like.spacing)) * int(n)
            for k, n in zip(classes[1:], segmented.voxels[1:], strict=True)
        },
        "unit": "pixels" if image.like.affine is None else "mm3",
        "mean_uncertainty": segmented.uncertain / max(1, inside),
        "vote_count": predictor.votes,
        **predictor.about(),
        "seed": predictor.sampling.seed,
        "seconds": round(time.perf_counter() - began, 3),
    }
