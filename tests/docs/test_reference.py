"""The pages of the reference say what the parsers and the settings say: options and defaults."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from cdal.cli import VERBS
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import CDALSettings
from cdal.recipes.settings import DataSettings, TrainingSettings
from cdal.serve.settings import Serving
from helpers.blocks import DOCS

SHARED = {"sampling": Sampling, "serving": Serving}
WORKERS = "workers"
"""Section of the options by which verbs have workers."""
_ROW = re.compile(r"^\| (?P<first>`[^|]+`) \|(?P<rest>.*)\|$", re.MULTILINE)


def sections(page: str) -> dict[str, str]:
    """The parts of a page of the reference, by their headings."""
    text = (DOCS / "reference" / page).read_text(encoding="utf-8")
    parts = re.split(r"^##+ (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a table by the names in their first cell; a row may have several."""
    return {
        name: [cell.strip() for cell in re.split(r"(?<!\\)\|", row["rest"])]
        for row in _ROW.finditer(text)
        for name in re.findall(r"`([^` ]+)[^`]*`", row["first"])
    }


def words(default: object) -> str:
    """A default as the pages write it."""
    return f"{default:g}" if isinstance(default, float) else f"{default}"


def options(verb: str) -> dict[str, Any]:
    """The options of a verb with their defaults."""
    parser = ArgumentParser()
    VERBS[verb].add_options(parser)
    return {
        flag: action.default
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--") and flag != "--help" and not flag.startswith("--no-")
    }


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_stands_in_its_section_with_its_default(verb: str):
    text = sections("command-line.md")[f"cdal {verb}"]
    told = rows(text)
    shared = {
        f"--{field.name.replace('_', '-')}"
        for name, kind in SHARED.items()
        if f"(#{name})" in text
        for field in dataclasses.fields(kind)
    }
    if f"(#{WORKERS})" in text:
        shared |= set(rows(sections("command-line.md")[WORKERS.capitalize()]))
    for flag, default in options(verb).items():
        if flag in told and isinstance(default, (str, int, float)) and default:
            assert words(default) in told[flag][-1], f"{flag}: {told[flag]}"
        elif flag not in told:
            assert flag in shared or re.search(rf"{flag}(?![\w-])", text), f"{flag}: not described"
    assert {name for name in told if name.startswith("--")} <= set(options(verb))


@pytest.mark.parametrize(("name", "kind"), SHARED.items())
def test_shared_options_have_the_defaults_of_their_settings(name: str, kind: type[Any]):
    told = rows(sections("command-line.md")[name.capitalize()])
    for field in dataclasses.fields(kind):
        default, cells = field.default, told[f"--{field.name.replace('_', '-')}"]
        if default not in (None, False, (), dataclasses.MISSING):
            assert cells[-1].strip("`") == words(default), f"{field.name}: {cells}"


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("`data`: how cases become network inputs", DataSettings),
        ("`training`: how the segmenter is trained", TrainingSettings),
        ("`segmenter`: what is trained", CDALSettings),
    ],
)
def test_fields_of_a_recipe_have_their_defaults(section: str, kind: type[Any]):
    told = rows(sections("recipe.md")[section])
    made = kind()
    for field in dataclasses.fields(kind):
        if field.name != "name":
            default = getattr(made, field.name)
            default = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(told[field.name][0]) == default, field.name
    assert set(told) <= {field.name for field in dataclasses.fields(kind)}
