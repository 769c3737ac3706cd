"""The words of the command line: options of every verb, fields of the recipe, lists."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from jsonargparse import ArgumentParser

from cdal.runtime.errors import UserError
from cdal.runtime.version import __version__

_FIELDS = "Any field of the recipe (train --dry-run shows them): --training.batch 4, --data.size=[40,56,40], --segmenter.votes 15"


def make_parser(verbs: Mapping[str, Callable[..., int]]) -> ArgumentParser:
    """The parser of the command line.

    Args:
        verbs: the function of each verb, whose docstring is its help.
    """
    about = {name: function.__doc__ or "" for name, function in verbs.items()}
    parser = ArgumentParser(prog="cdal", description="Segment medical images by few-step diffusion, and say how sure it is.")
    parser.add_argument("--version", action="version", version=f"cdal {__version__}")
    subcommands = parser.add_subcommands(dest="verb", title="verbs")

    verb = _verb(subcommands, "demo", about)
    verb.add_argument("--out", type=str, default="cdal-demo", help="folder for phantoms, run and report")
    verb.add_argument("--minutes", type=float, default=3.0, help="minutes of training")
    _common(verb)

    verb = _verb(subcommands, "data", about)
    actions = verb.add_subcommands(dest="action", title="actions")
    action = ArgumentParser(description="The public sets: what they hold, where from, licence, citation.")
    action.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    actions.add_subcommand("list", action, help="where from, licence, citation")
    action = ArgumentParser(description="Turn a public set's files into a data folder.")
    action.add_argument("name", type=str, help="of the set (cdal data list)")
    action.add_argument("source", type=str, help="folder or archive with the owners' files; or the word download")
    action.add_argument("target", type=str, help="the data folder, which must not be there yet")
    actions.add_subcommand("prepare", action, help="owners' files to a data folder")
    action = ArgumentParser(description="Draw phantoms with six simulated annotators each, as a data folder.")
    action.add_argument("target", type=str, help="the data folder; phantoms that are there are drawn again")
    action.add_argument("--count", type=int, default=320, help="phantoms")
    action.add_argument("--seed", type=int, default=0, help="of every random draw")
    actions.add_subcommand("phantoms", action, help="generated pictures with several annotators")

    verb = _verb(subcommands, "check", about)
    verb.add_argument("data", type=str, help="data folder")
    verb.add_argument("--sheet", type=str | None, help="write a PNG of cases with the outlines of their masks")
    verb.add_argument("--all", action="store_true", help="show every finding, not only the first of each kind")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    verb = _verb(subcommands, "train", about)
    verb.add_argument("recipe", type=str, help="a shipped recipe's name (cdal info), or a YAML file")
    verb.add_argument("--data", type=str | None, help="data folder: imagesTr and labelsTr, or images and labels")
    verb.add_argument("--out", type=str | None, help="run folder; a run that is there is gone on with")
    verb.add_argument("--fold", type=int | None, help="fold k of the recipe's partition; its part k is for the test")
    verb.add_argument("--segmenter", type=str | None, help="a system's name (cdal info), or the class of a network of one's own")
    verb.add_argument("--steps", type=int | None, help="optimisation steps")
    verb.add_argument("--minutes", type=float | None, help="minutes of training")
    verb.add_argument("--dry-run", action="store_true", help="print the resolved recipe and do nothing")
    verb.add_argument("--seed", type=int | None, help="of every random draw")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    verb.epilog = _FIELDS

    verb = _verb(subcommands, "predict", about)
    verb.add_argument("model", type=str, help="a .safetensors file, a run folder, a shipped model's name, or an exported graph")
    verb.add_argument("inputs", type=str, nargs="+", help="files, folders of files, folders with a DICOM series")
    verb.add_argument("--out", type=str, default="cdal-results", help="folder for the results")
    verb.add_argument(
        "--save",
        type=str,
        nargs="+",
        default=["mask"],
        help="some of: mask probability uncertainty votes overlay instances geojson",
    )
    verb.add_argument("--series", type=str | None, help="number, description or UID of the DICOM series, where there are several")
    _sampling(verb)
    _common(verb)

    verb = _verb(subcommands, "evaluate", about)
    verb.add_argument("model", type=str, help="a .safetensors file, a run folder, a shipped model's name, or an exported graph")
    verb.add_argument("--data", type=str, required=True, help="data folder")
    verb.add_argument("--fold", type=int | None, help="fold k; the model's own if not given")
    verb.add_argument("--split", type=Literal["train", "validation", "test", "all"], default="test", help="which cases")
    verb.add_argument("--scoring", type=str, nargs="+", help="scoring protocols (cdal info); the recipe's if not given")
    verb.add_argument("--out", type=str | None, help="folder for the table by case and the summary")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    _sampling(verb)
    _common(verb)

    verb = _verb(subcommands, "compare", about)
    verb.add_argument(
        "results", type=str, nargs="+", help="folders of cdal evaluate --out, or folders that hold such; NAME=FOLDER names a system"
    )
    verb.add_argument("--reference", type=str | None, help="the system that the others are held against; the first if not given")
    verb.add_argument("--score", type=str, default="dice", help="dice, iou, precision, recall, hd95 or assd")
    verb.add_argument("--scoring", type=str | None, help="scoring protocol (cdal info); the first of each evaluation if not given")
    verb.add_argument("--out", type=str | None, help="folder for the tables (Markdown, CSV, LaTeX, HTML, JSON) and pictures")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    verb = _verb(subcommands, "crossval", about)
    verb.add_argument("recipe", type=str, help="a shipped recipe's name (cdal info), or a YAML file")
    verb.add_argument("--data", type=str, required=True, help="data folder: imagesTr and labelsTr, or images and labels")
    verb.add_argument("--out", type=str, required=True, help="folder for runs and comparison; what is there is gone on with")
    verb.add_argument("--segmenter", type=str, default="cdal", help="names with commas; the others are held against the first")
    verb.add_argument("--folds", type=str, default="all", help="all, or numbers with commas")
    verb.add_argument("--budget", type=str | None, help="of every training: 5min, 2h or 500steps; the recipe's if not given")
    verb.add_argument("--seeds", type=str | None, help="numbers with commas: a training with each; the recipe's if not given")
    verb.add_argument("--dry-run", action="store_true", help="print what is done and what is missing, and do nothing")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    verb.epilog = _FIELDS

    verb = _verb(subcommands, "experiment", about)
    verb.add_argument(
        "name", type=str | None, nargs="?", help="a shipped experiment, by itself to see its variants; without one all are listed"
    )
    verb.add_argument("--data", type=str | None, help="data folder: imagesTr and labelsTr, or images and labels")
    verb.add_argument("--out", type=str | None, help="folder for the runs and the page, NAME.md; what is there is gone on with")
    verb.add_argument("--arms", type=str, default="", help="only these variants, with commas, beside the first; all if not given")
    verb.add_argument("--folds", type=str | None, help="numbers with commas; the experiment's if not given")
    verb.add_argument("--seeds", type=str | None, help="numbers with commas; the experiment's if not given")
    verb.add_argument("--budget", type=str | None, help="of every training: 5min, 2h or 500steps; the experiment's if not given")
    verb.add_argument("--dry-run", action="store_true", help="print what is done and what is missing, and do nothing")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    verb.epilog = _FIELDS

    verb = _verb(subcommands, "export", about)
    verb.add_argument("model", type=str, help="a .safetensors file, a run folder, or a shipped model's name")
    verb.add_argument("--to", type=Literal["onnx", "openvino", "torch"], default="onnx", help="the graph's format")
    verb.add_argument("--out", type=str | None, help="folder for the graph and the JSON file beside it; here if not given")
    verb.add_argument("--timesteps", type=int | None, help="steps of sampling; the recipe's if not given, 0 for no diffusion")

    verb = _verb(subcommands, "bench", about)
    verb.add_argument("parts", type=str, nargs="*", help="what to measure; all if not given: see the documentation on speed")
    verb.add_argument("--systems", type=str, default="", help="names with commas, for the parts on inference; all if not given")
    verb.add_argument("--data", type=str | None, help="the hippocampus data folder, for the time to a Dice")
    verb.add_argument("--target", type=float, default=0.87, help="that Dice: a mean over the classes on the validation cases")
    verb.add_argument("--model", type=str, default="hippocampus", help="for the exported graphs")
    verb.add_argument("--rounds", type=int, default=7, help="how often each thing is measured")
    verb.add_argument("--threads", type=int | None, help="threads to compute with; PyTorch's choice if not given")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda")
    verb.add_argument("--out", type=str | None, help="folder for bench.json and bench.md")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    verb = _verb(subcommands, "info", about)
    verb.add_argument("model", type=str | None, nargs="?", help="a .safetensors file, a run folder, or a shipped model's name")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def _verb(subcommands: Any, name: str, about: Mapping[str, str]) -> ArgumentParser:
    verb = ArgumentParser(description=about[name])
    verb.add_argument(
        "--config", action="config", help="a YAML file with any of these options (for fields of the recipe write a recipe)"
    )
    subcommands.add_subcommand(name, verb, help=about[name])
    return verb


def _sampling(verb: ArgumentParser) -> None:
    verb.add_argument("--votes", type=int | None, help="segmentations drawn and averaged; the recipe's if not given")
    verb.add_argument("--timesteps", type=int | None, help="steps of sampling; the recipe's if not given, 0 for no diffusion")
    verb.add_argument(
        "--mirror",
        action=BooleanOptionalAction,
        help="votes see the mirror images that the recipe allows, slower; as the recipe says if not given",
    )
    verb.add_argument("--components", type=int | None, help="connected components kept of each class, the largest; 0: all")
    verb.add_argument("--temperature", type=float | None, help="of the probabilities; the model's own if not given")


def _common(verb: ArgumentParser) -> None:
    verb.add_argument("--seed", type=int, default=0, help="of every random draw")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")


def split_fields(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words for the verb, and recipe fields, which are the options with a dot in their name, with their values."""
    rest: list[str] = []
    fields: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not (word.startswith("--") and "." in word.split("=", 1)[0]):
            rest.append(word)
            continue
        fields.append(word)
        if "=" not in word and remaining and not remaining[0].startswith("--"):
            fields.append(remaining.pop(0))
    return rest, fields


def value_of(fields: Sequence[str], name: str) -> str | None:
    """The value of a recipe field among `--part.field value` and `--part.field=value`, or none."""
    for i, field in enumerate(fields):
        if field == name:
            return fields[i + 1] if i + 1 < len(fields) else None
        if field.startswith(f"{name}="):
            return field.split("=", 1)[1]
    return None


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
