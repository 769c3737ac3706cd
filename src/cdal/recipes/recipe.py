"""A recipe: all settings of an experiment, as one frozen tree of dataclasses.

Shipped recipes are functions in `cdal.recipes` that return a `Recipe`. Use `dataclasses.replace` to
make a variant. The resolved recipe is written as YAML into the run folder and as JSON into the
model file. An unknown field or a value of the wrong type is refused; the message lists the known
fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cdal.recipes.cdal import CDALSettings
from cdal.recipes.checks import check_data, check_training
from cdal.recipes.settings import (
    DataSettings,
    SegmenterSettings,
    TrainingSettings,
    need,
)
from cdal.recipes.systems import default_settings
from cdal.runtime.errors import UserError

__all__ = [
    "CDALSettings",
    "DataSettings",
    "Recipe",
    "SegmenterSettings",
    "TrainingSettings",
    "check",
    "field_names",
    "from_dict",
    "load_recipe",
    "override",
    "to_dict",
    "to_yaml",
    "words_of",
]

_PARTS = ("data", "segmenter", "training")
_LONGEST = 2**20
"""Most bytes of a YAML file."""


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: name of the recipe it started from.
        data: settings for turning cases into network inputs.
        segmenter: settings of the segmenter that is trained; `name` selects their class.
        training: settings of the training.
    """

    name: str
    data: DataSettings = field(default_factory=DataSettings)
    segmenter: SegmenterSettings = field(default_factory=CDALSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        check(self)


def check(recipe: Recipe) -> None:
    """Refuse values that no run could use.

    Raises:
        UserError: the message names the field, the expected values and the given value.
    """
    for part in _PARTS:
        owner = getattr(recipe, part)
        optional = _optional(owner.__class__)
        for option in dataclasses.fields(owner):
            value, name = getattr(owner, option.name), f"{part}.{option.name}"
            if isinstance(value, float):
                need(owner, name, math.isfinite, "a finite number")
            if value is None and option.name not in optional:
                raise UserError(f"{name} must have a value; it is null.")
    check_data(recipe.data)
    check_training(recipe.training)
    recipe.segmenter.check(recipe.data)
    if not recipe.segmenter.several_annotators:
        need(recipe.training, "training.annotators", lambda n: n == 1, "1 with this segmenter")
    divisor = max(4, recipe.segmenter.multiple(recipe.data))
    need(
        recipe.data,
        "data.size",
        lambda size: all(s % divisor == 0 for s in size),
        f"multiples of {divisor}",
    )


def _optional(owner: type) -> frozenset[str]:
    """Names of the fields that may be null."""
    hints = get_type_hints(owner)
    return frozenset(name for name, hint in hints.items() if type(None) in get_args(hint))


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested dictionaries of plain values, which YAML and JSON can hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(recipe))


def from_dict(values: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
    """The recipe from nested dictionaries, as `to_dict` returns them or as a user writes them.

    Missing fields have their defaults.

    Args:
        values: nested dictionaries of fields.
        origin: name of the source in error messages.

    Raises:
        UserError: a field does not exist or has the wrong type; the message lists the known fields.
    """
    if not isinstance(values, Mapping):
        raise UserError(
            f"{origin} must be a mapping with data, segmenter and training; it is "
            f"{type(values).__name__}."
        )
    # An empty part of a YAML file is None; it counts as missing.
    given = {name: value for name, value in values.items() if value is not None}
    unknown = [str(name) for name in given if name not in ("name", *_PARTS)]
    if unknown:
        raise UserError(
            f"{origin}: no part is called {', '.join(unknown)}. The parts are: name, "
            f"{', '.join(_PARTS)}."
        )
    wrong = [name for name in _PARTS if not isinstance(given.get(name, {}), Mapping)]
    if wrong:
        raise UserError(
            f"{origin}: {wrong[0]} must be a mapping of fields; it is {given[wrong[0]]!r}."
        )
    kind = given.get("segmenter", {}).get("name", "cdal")
    try:
        settings = default_settings(str(kind))
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
    parts = {
        "name": "",
        "data": DataSettings(),
        "segmenter": settings,
        "training": TrainingSettings(),
    }
    return _parse(parts, given, origin)


def override(recipe: Recipe, fields: Mapping[str, Any], origin: str = "the fields") -> Recipe:
    """A copy of the recipe with some fields changed.

    Args:
        recipe: recipe to start from.
        fields: values by field name, `{"training.batch": 4}`. Strings are parsed as on the command
            line, `{"training.batch": "4"}`.
        origin: name of the source in error messages.

    Raises:
        UserError: same as for `from_dict`; or a field would change the segmenter's name.
    """
    if not fields:
        return recipe
    values, known = to_dict(recipe), field_names(recipe)
    for name, value in fields.items():
        if name not in known:
            raise UserError(f"{origin}: there is no {name}.{_like(name, known)}")
        part, _, field_name = name.partition(".")
        values[part][field_name] = value
    changed = _parse(vars(recipe), values, origin)
    if changed.segmenter.name != recipe.segmenter.name:
        raise UserError(
            f"segmenter.name cannot become {changed.segmenter.name!r} by itself. Use --segmenter."
        )
    return changed


def words_of(fields: Mapping[str, Any]) -> list[str]:
    """Fields as command-line options, `["--training.batch=4"]`."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in fields.items()
    }
    return [f"--{name}={text}" for name, text in texts.items()]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        UserError: the file cannot be read, is not YAML, or is not a recipe.
    """
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise UserError(f"{path} cannot be read as a YAML recipe: it is not a file.")
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST} bytes")
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, _Loader)  # noqa: S506 (it is a SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a YAML recipe: {error}") from error
    return from_dict(values, str(path))


class _Loader(yaml.SafeLoader):
    """YAML in which no key is given twice, and nothing repeats by reference."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse references: a few of them can stand for more than any memory holds."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"references (*{event.anchor}) are not taken; write values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is given twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML text."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, default_flow_style=None, width=120)


def field_names(recipe: Recipe) -> list[str]:
    """Names of all fields as on the command line, such as `training.batch`."""
    return _field_names(vars(recipe))


def _field_names(parts: Mapping[str, Any]) -> list[str]:
    return [f"{part}.{item.name}" for part in _PARTS for item in dataclasses.fields(parts[part])]


def _parse(base: Mapping[str, Any], values: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe from nested values; `base` has the default name and the default parts.

    Parsing takes long, and a training reads the same header again and again. Recipes are frozen, so
    one that was parsed before is returned again.
    """
    key = repr((base, values))
    if key in _parsed:
        return _parsed[key]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--name", type=str, default=base["name"])
    for part in _PARTS:
        parser.add_argument(f"--{part}", type=type(base[part]), default=base[part])
    try:
        parts = parser.instantiate(parser.parse_object(dict(values)))
    except (ArgumentError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{origin}: {_explain(str(error), _field_names(base))}") from error
    recipe = Recipe(**{name: parts[name] for name in ("name", *_PARTS)})
    if len(_parsed) == _MOST_PARSED:
        _parsed.clear()
    _parsed[key] = recipe
    return recipe


_MOST_PARSED = 256
_parsed: dict[str, Recipe] = {}
"""Recipes by what they were parsed from."""


def _explain(message: str, names: Sequence[str]) -> str:
    """The parser's message; for an unknown field also the most similar field and all fields."""
    unknown = re.search(r"option '([\w.]+)'", message)
    return message.strip() if unknown is None else f"{message.strip()}{_like(unknown[1], names)}"


def _like(wrong: str, names: Sequence[str]) -> str:
    """A hint for an unknown field: the most similar field, and all fields."""
    by_last_part = {name.split(".")[1]: name for name in names}
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.7)
    close = close or [
        by_last_part[m] for m in difflib.get_close_matches(wrong.split(".")[-1], by_last_part, n=1)
    ]
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{hint}\nThe fields are: {', '.join(names)}."
