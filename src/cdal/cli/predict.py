"""`cdal predict`: Segment files with a trained model."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import BAD_INPUT, DONE, IN_PART, MODEL, add_device, add_sampling, sampling_of
from cdal.inference.outputs import OUTPUTS


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument(
        "inputs",
        type=str,
        nargs="+",
        help="Files, folders of files, or folders with a DICOM series.",
    )
    parser.add_argument("--out", type=str, default="cdal-results", help="Folder for the results.")
    parser.add_argument(
        "--save",
        type=str,
        nargs="+",
        default=["mask"],
        help=f"Outputs to write for each image, one or more of: {' '.join(OUTPUTS)}.",
    )
    parser.add_argument(
        "--series",
        type=str | None,
        help="Number, description or UID of the DICOM series, if a folder has several.",
    )
    add_sampling(parser)
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar
    from cdal.inference.load import load
    from cdal.inference.predict import predict

    predictor = load(options.model, sampling_of(options), options.device)
    with progress_bar() as report:
        written = predict(
            predictor,
            options.inputs,
            options.out,
            save=options.save,
            series=options.series,
            report=report,
        )
    for message in written.failed.values():
        tell(f"cdal predict: {message}", error=True)
    passed_over = (
        f", {written.passed_over} earlier results passed over" if written.passed_over else ""
    )
    earlier = f" ({written.earlier} of them by an earlier call)" if written.earlier else ""
    tell(
        f"{len(written.done)} segmented into {options.out}{earlier}, {len(written.failed)} "
        f"failed{passed_over}"
    )
    if written.failed:
        return IN_PART if written.done else BAD_INPUT
    return DONE
