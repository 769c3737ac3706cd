"""Segment files, and write the results on the grids of these files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.inference.case import CaseWorker, Wanted
from cdal.inference.load import load
from cdal.inference.many import Call, call_of, need_outputs
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report, silent
from cdal.runtime.execution.executor import Here


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
    of the same input are replaced; those of another image of the same name, and other files, are
    kept, and the input fails. `predictions.json` records how the results were made.

    A call that was interrupted is finished by the same call: an input is passed over if the same
    model has made its results from the same bytes with the same options. Several calls may write
    into one folder at once. For more inputs than fit into memory, and for several processes, see
    `cdal.inference.archive`.

    Args:
        model: a model or several as for `load`, or a predictor.
        inputs: files, folders of files, folders with a DICOM series, or tables that list them, see
            `cdal.inference.input_tables`.
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
    need_outputs(save)
    predictor = predictor_of(model, sampling)
    wanted = Wanted(Path(out), tuple(save), call_of(inputs))
    call = Call(predictor.header, inputs, wanted, series)
    rows, failed, earlier = list[dict[str, Any]](), dict[str, str](), 0
    for one in call.run(Here(), lambda: CaseWorker(predictor, wanted), report):
        if one.made is None:
            failed[one.path] = one.failure
        else:
            rows.append(one.made.row)
            earlier += one.made.earlier
    return Written(rows, failed, call.lister.passed_over, earlier)


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
