"""Exit codes, options and parsing functions that verbs share."""

from __future__ import annotations

import dataclasses
import os
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.serve.settings import Serving

if TYPE_CHECKING:
    from cdal.runtime.execution.executor import Executor

DONE, BAD_INPUT, IN_PART, INTERRUPTED = 0, 2, 3, 130
"""Exit codes. Python itself exits with 1 on a bug."""

FIELDS = (
    "Fields of the recipe (see train --dry-run) are options: --training.batch 4, "
    "--data.size=[40,56,40], --segmenter.votes 15"
)

MODEL = (
    "A .safetensors file, a run folder, the name of a shipped model, a model of the hub "
    "(hf://OWNER/NAME), an exported .onnx or .xml, or the folder of a cross-validation, all of "
    "whose models vote."
)
IMAGES = "Files, folders of files, or folders with a DICOM series."
INPUTS = f"{IMAGES[:-1]}; tables (.csv, .tsv, .parquet) with their paths in the column path."
RECIPE = "Name of a shipped recipe (cdal info), or a YAML file."
DATA = (
    "Data folder with imagesTr and labelsTr, images and labels, or another layout; or a table "
    "(.csv) that lists images and labels."
)


def add_config(parser: ArgumentParser) -> None:
    """Add `--config`, which every verb has."""
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of these options. Recipe fields belong in a recipe file.",
    )


def add_trust(parser: ArgumentParser) -> None:
    """Add `--trust-own-network`, which every verb has."""
    parser.add_argument(
        "--trust-own-network",
        action="store_true",
        help="Load models of networks outside cDAL, whose modules are then imported and run.",
    )


def add_json(parser: ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object and nothing else."
    )


def add_device(parser: ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device", type=str, default="auto", help="Device: auto, cpu, cuda or mps (default: auto)."
    )


def add_series(parser: ArgumentParser) -> None:
    """Add `--series`."""
    parser.add_argument(
        "--series",
        type=str | None,
        help="Number, description or UID of the DICOM series, if a folder has several.",
    )


def add_workers(parser: ArgumentParser, workers: str) -> None:
    """Add the options of having work done by several workers.

    Args:
        parser: parser of the verb.
        workers: what the workers are, for the help.
    """
    parser.add_argument(
        "--workers",
        type=int | None,
        help=f"{workers} (default: none beside this one; with --engine one for each GPU or core).",
    )
    parser.add_argument(
        "--engine",
        type=str | None,
        help="What runs the workers: process (on this machine; the default) or ray.",
    )
    parser.add_argument(
        "--address",
        type=str | None,
        help="Address of a running Ray cluster, or auto (default: one is started here).",
    )


def executor_of(options: Namespace, ahead: int = 2) -> Executor:
    """The executor that the options of `add_workers` and `--device` describe.

    Args:
        options: the options.
        ahead: tasks that a worker holds at most.

    Raises:
        UserError: as `cdal.runtime.execution.engines.find_executor`.
    """
    from cdal.runtime.execution.engines import find_executor

    return find_executor(options.engine, options.workers, options.address, options.device, ahead)


def add_size(parser: ArgumentParser, more: str = "") -> None:
    """Add `--size` for verbs that train."""
    parser.add_argument(
        "--size",
        type=str | None,
        help=f"Size of the networks and length of the training: S (the recipe as it is), M, L or XL"
        f"{more}.",
    )


def add_dry_run(parser: ArgumentParser, more: str = "") -> None:
    """Add `--dry-run` for verbs with several trainings."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help=f"Print which runs are done and which are missing, and run nothing{more}.",
    )


def add_sampling(parser: ArgumentParser) -> None:
    """Add an option for each field of `Sampling`."""
    _add_fields(parser, Sampling)


def sampling_of(options: Namespace) -> Sampling:
    """The `Sampling` that the options of `add_sampling` describe.

    Raises:
        UserError: a number is too low.
    """
    return Sampling(
        **{option.name: options[option.name] for option in dataclasses.fields(Sampling)}
    )


def add_serving(parser: ArgumentParser) -> None:
    """Add an option for each field of `Serving`."""
    _add_fields(parser, Serving)


def serving_of(options: Namespace) -> Serving:
    """The `Serving` that the options of `add_serving` describe.

    The token may also be in the environment, where other users of the computer cannot see it.

    Raises:
        UserError: a number is too low, or there is no token where one is needed.
    """
    values = {option.name: options[option.name] for option in dataclasses.fields(Serving)}
    values["names"] = tuple(values["names"])
    values["token"] = values["token"] or os.environ.get("CDAL_TOKEN") or None
    return Serving(**values)


def _add_fields(parser: ArgumentParser, settings: type[Any]) -> None:
    """Add an option for each field of a dataclass; its help is in the field's metadata."""
    types = get_type_hints(settings)
    for option in dataclasses.fields(settings):
        arguments: dict[str, Any] = {"help": option.metadata["help"]}
        flag = f"--{option.name.replace('_', '-')}"
        if types[option.name] == bool | None or option.default is True:
            arguments["default"] = option.default
            parser.add_argument(flag, action=BooleanOptionalAction, **arguments)
        elif types[option.name] is bool:
            parser.add_argument(flag, action="store_true", **arguments)
        elif types[option.name] == tuple[str, ...]:
            parser.add_argument(flag, type=str, nargs="+", default=[], **arguments)
        else:
            parser.add_argument(flag, type=types[option.name], default=option.default, **arguments)


def split_fields(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate the fields of the recipe from the other words of a command line.

    A field is an option with a dot in its name.

    Returns:
        The other words, and the values of the fields by name.

    Raises:
        SystemExit: a field has no value.
    """
    rest: list[str] = []
    fields: dict[str, str] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not (word.startswith("--") and "." in name):
            rest.append(word)
            continue
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise SystemExit(f"cdal: {word} needs a value: {word} VALUE.")
            value = remaining.pop(0)
        fields[name] = value
    return rest, fields


def split_list(text: str) -> list[str]:
    """Parse names separated by commas, such as `a,b,c`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_numbers(option: str, text: str) -> list[int]:
    """Parse numbers separated by commas, such as `0,2`.

    Args:
        option: name of the option, for the error message.
        text: value of the option.

    Raises:
        UserError: the text is not a list of numbers.
    """
    try:
        return [int(number) for number in split_list(text)]
    except ValueError as error:
        raise UserError(f"{option} must be numbers with commas (0,2); it is {text!r}.") from error
