"""`cdal predict`: Segment files with a trained model."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import (
    BAD_INPUT,
    DONE,
    IN_PART,
    INPUTS,
    MODEL,
    add_device,
    add_sampling,
    add_series,
    add_workers,
    executor_of,
    sampling_of,
)

if TYPE_CHECKING:
    from cdal.runtime.execution.executor import MakeWorker


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    from cdal.inference.outputs import OUTPUTS

    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument(
        "inputs",
        type=str,
        nargs="+",
        help=INPUTS,
    )
    parser.add_argument("--out", type=str, default="cdal-results", help="Folder for the results.")
    parser.add_argument(
        "--save",
        type=str,
        nargs="+",
        default=["mask"],
        help=f"Outputs to write for each image, one or more of: {' '.join(OUTPUTS)}.",
    )
    add_series(parser)
    parser.add_argument(
        "--shard",
        type=str | None,
        help=(
            "Take the I-th of N parts of the inputs, I/N, counted from 1; slurm: that of the task "
            "of a job array."
        ),
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="Also try the inputs again with which two workers died in an earlier, same call.",
    )
    add_workers(parser, "Processes that segment at the same time, each with the model")
    add_sampling(parser)
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    if sys.stderr.isatty():  # importing PyTorch and reading a model take seconds
        tell(f"loading {options.model}", error=True)
    from cdal.cli.console import progress_bar
    from cdal.cli.judged import Judged
    from cdal.inference.archive import LoadingWorkers, brief_worker
    from cdal.inference.case import Wanted
    from cdal.inference.load import load
    from cdal.inference.many import Call, call_of
    from cdal.inference.shards import read_shard
    from cdal.runtime.execution.executor import Here, about_deaths
    from cdal.runtime.execution.processes import terminated_is_interrupted

    shard = None if options.shard is None else read_shard(options.shard)
    executor, sampling = executor_of(options), sampling_of(options)
    here = isinstance(executor, Here)
    # Beside workers this process only lists, and leaves the GPU to them.
    predictor = load(options.model, sampling, options.device if here else "cpu")
    out, save = Path(options.out), tuple(options.save)
    wanted = Wanted(out, save, call_of(options.inputs), options.retry_failed)
    stream = not here or shard is not None
    call = Call(predictor.header, options.inputs, wanted, options.series, stream, shard)
    make_worker: MakeWorker = (
        partial(brief_worker, predictor, wanted)
        if here
        else LoadingWorkers(options.model, sampling, options.device, wanted)
    )
    judged, done, earlier, failed = Judged(), 0, 0, 0
    with (
        terminated_is_interrupted(),
        progress_bar() as report,
        closing(call.run(executor, make_worker, report)) as outcomes,
    ):
        for one in outcomes:
            if one.made is None:
                failed += 1
                tell(f"cdal predict: {one.failure}", error=True)
            else:
                done += 1
                earlier += one.made.earlier
                judged.add(one.made.row)
    if call.empty:
        tell("there is no image to segment; nothing was written", error=True)
        return BAD_INPUT
    passed = call.lister.passed_over
    by_earlier = f" ({earlier} of them by an earlier call)" if earlier else ""
    passed_over = f", {passed} earlier results passed over" if passed else ""
    tell(f"{done} segmented into {out}{by_earlier}, {failed} failed{passed_over}")
    if lost := about_deaths(executor):
        tell(lost, error=True)
    if shard is not None:
        tell(
            f"shard {shard.number} of {shard.count}: {call.shares.taken:,} of "
            f"{call.shares.seen:,} cases; done in this folder: {call.record.rows:,}"
        )
    for line in judged.lines(predictor.judge.missing):
        tell(line)
    if failed:
        return IN_PART if done else BAD_INPUT
    return DONE
