"""The words that verbs share: exit codes, options, fields of the recipe, lists."""

from __future__ import annotations

import dataclasses
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError

DONE, BAD_INPUT, IN_PART, INTERRUPTED = 0, 2, 3, 130
"""Exit codes; Python's own 1 is a bug."""

FIELDS = "Any field of the recipe (train --dry-run shows them): --training.batch 4, --data.size=[40,56,40], --segmenter.votes 15"

MODEL = "A .safetensors file, a run folder, the name of a shipped model, or an exported graph."
RECIPE = "The name of a shipped recipe (cdal info), or a YAML file."
DATA = "Data folder: imagesTr and labelsTr, or images and labels."


def add_config(parser: ArgumentParser) -> None:
    """`--config`, which every verb has."""
    parser.add_argument("--config", action="config", help="YAML file with any of these options (recipe fields go into a recipe).")


def add_json(parser: ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="Print one JSON object and nothing else.")


def add_device(parser: ArgumentParser) -> None:
    """`--device`."""
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps (default: auto).")


def add_dry_run(parser: ArgumentParser) -> None:
    """`--dry-run` of verbs with many trainings."""
    parser.add_argument("--dry-run", action="store_true", help="Print what is done and what is missing, and do nothing.")


def add_sampling(parser: ArgumentParser) -> None:
    """An option for each field of `Sampling`."""
    types = get_type_hints(Sampling)
    for option in dataclasses.fields(Sampling):
        how: dict[str, Any] = {"help": option.metadata["help"]}
        if types[option.name] == bool | None:
            parser.add_argument(f"--{option.name}", action=BooleanOptionalAction, **how)
        else:
            parser.add_argument(f"--{option.name}", type=types[option.name], default=option.default, **how)


def sampling_of(options: Namespace) -> Sampling:
    """What the options of `add_sampling` say.

    Raises:
        UserError: a number is too low.
    """
    return Sampling(**{option.name: options[option.name] for option in dataclasses.fields(Sampling)})


def split_fields(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words for the verb; and fields of the recipe, which are the options with a dot in their name, with their values.

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
    """`a,b,c` as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_numbers(option: str, text: str) -> list[int]:
    """`0,2` as numbers.

    Raises:
        UserError: it is anything else.
    """
    try:
        return [int(number) for number in split_list(text)]
    except ValueError as error:
        raise UserError(f"{option} must be numbers with commas (0,2); it is {text!r}.") from error
