"""The classes that a data folder declares, in `dataset.json` or `labelmap.txt`.

    {"labels": {"background": 0, "lung": 255}}                    values
    {"labels": {"0": "background", "255": "lung"}}                the same
    {"labels": {"background": [0, 0, 0], "lung": [255, 0, 0]}}    colours, also "#ff0000"
    {"labels": {"background": 0, "nucleus": "foreground"}}        whatever is not 0

`labelmap.txt`, as CVAT writes it beside masks, has a line `name:red,green,blue:parts:actions` for
each class; `class_dict.csv` has the columns `name`, `r`, `g` and `b`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.datasets.layout import Coding
from cdal.datasets.tables import read_json, read_rows
from cdal.runtime.errors import UserError
from cdal.runtime.text import composed, is_plain

_MOST_DECLARED = 256
"""Largest number of classes in an 8 bit mask."""

_LARGEST = 2**24 - 1
"""Largest value that label images can hold."""

_NOT_CLASSES = frozenset(("ignore", "ignored", "ignore label", "void", "unlabeled", "unlabelled"))
"""Names of labels for voxels that nobody annotated."""

_TABLES = ("labelmap.txt", "class_dict.csv")
"""Names of tables of colours: those of CVAT and Pascal VOC, and that of CamVid."""

_HEX = re.compile(r"^#[0-9a-fA-F]{6}$")


@dataclass(frozen=True)
class Declared:
    """Declared classes.

    Attributes:
        classes: names of the classes, the background first; empty if none are declared.
        values: value or colour of each class, see `DataFolder.values`.
        coding: what the numbers of a label image mean.
    """

    classes: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    coding: Coding = "values"


def declared_classes(place: Path, label_folders: Iterable[Path] = ()) -> Declared:
    """Return the classes that a folder declares.

    Args:
        place: folder that may hold `dataset.json` or a table of colours.
        label_folders: folders of labels, which may hold a table of colours too.

    Raises:
        UserError: the declaration cannot be used, or there are several.
    """
    path = place / "dataset.json"
    declared = read_json(path)
    folders = dict.fromkeys((place, *label_folders))
    tables = [folder / name for folder in folders for name in _TABLES]
    found = [path] if "labels" in declared else []
    found += [table for table in tables if table.is_file()]
    if len(found) > 1:
        raise UserError(
            f"{found[0]} and {found[1]} both declare the classes. Remove `labels` from "
            "dataset.json, or all tables of colours but one."
        )
    if found and found[0] != path:
        colours = _read_colours(found[0])
        # Tables that other programs write often leave out black, where nothing is drawn.
        black = {} if 0 in colours.values() or "background" in colours else {"background": 0}
        return _of_colours(black | colours, found[0])
    return _of_json(declared, path)


def _of_json(declared: Mapping[str, Any], path: Path) -> Declared:
    labels = declared.get("labels")
    if labels is None:
        return Declared()
    if not isinstance(labels, dict) or not labels:
        raise _other_form(labels, path)
    by_name = {composed(name): value for name, value in labels.items()}
    if len(by_name) < len(labels):
        raise _not_apart(labels, path)
    if all(_colour(value) is not None for value in by_name.values()):
        return _of_colours({name: _colour(value) or 0 for name, value in by_name.items()}, path)
    if "regions_class_order" in declared or any(
        isinstance(value, list) for value in by_name.values()
    ):
        raise UserError(
            f"{path}: regions (a name for several values) are not supported; it declares "
            f"{labels!r:.200}. Give one value for each class."
        )
    if "foreground" in by_name.values():
        return _of_foreground(by_name, path)
    return _of_values(by_name, path)


def _of_values(labels: Mapping[str, Any], path: Path) -> Declared:
    if all(isinstance(value, int) and not isinstance(value, bool) for value in labels.values()):
        numbered = {value: name for name, value in labels.items()}
    else:
        try:
            numbered = {int(value): name for value, name in labels.items()}
        except ValueError as error:
            raise _other_form(labels, path) from error
        if not all(isinstance(name, str) for name in numbered.values()):
            raise _other_form(labels, path)
        numbered = {value: composed(name) for value, name in numbered.items()}
    if (
        len(set(numbered.values())) < len(labels)
        or len(numbered) < max(2, len(labels))
        or 0 not in numbered
        or min(numbered) < 0
        or max(numbered) > _LARGEST
    ):
        raise _not_apart(labels, path)
    return _checked(numbered, "values", path)


def _of_foreground(labels: Mapping[str, Any], path: Path) -> Declared:
    names = [name for name, value in labels.items() if value == "foreground"]
    if len(labels) != 2 or len(names) != 1 or 0 not in labels.values():
        raise UserError(
            f'{path}: expected "labels": {{"background": 0, "name": "foreground"}}, one class that '
            f"takes whatever is not 0; it declares {dict(labels)!r:.200}."
        )
    (background,) = set(labels) - set(names)
    return _checked({0: background, 1: names[0]}, "foreground", path)


def _of_colours(colours: Mapping[str, int], path: Path) -> Declared:
    numbered = {colour: name for name, colour in colours.items()}
    if len(numbered) < max(2, len(colours)) or 0 not in numbered:
        listed = ", ".join(f"{name} #{colour:06x}" for name, colour in colours.items())
        raise UserError(
            f"{path}: expected two or more classes of different colours, black (#000000) for the "
            f"background; it declares {listed[:200]}."
        )
    return _checked(numbered, "colours", path)


def _checked(numbered: Mapping[int, str], coding: Coding, path: Path) -> Declared:
    """Return the classes in the order of their values.

    Raises:
        UserError: there are too many, a name cannot be printed, or a name says that the label is no
            class.
    """
    if len(numbered) > _MOST_DECLARED:
        raise UserError(
            f"{path}: expected at most {_MOST_DECLARED} labels; it declares {len(numbered)}."
        )
    for value, name in sorted(numbered.items()):
        if not is_plain(name):
            raise UserError(
                f"{path}: expected names of classes without control characters; one is "
                f"{name!a}. Correct it."
            )
        if value and re.sub(r"[\s_-]+", " ", name.strip().lower()) in _NOT_CLASSES:
            raise UserError(
                f"{path}: the label {name!r} is no class: it marks what nobody annotated, and cDAL "
                "cannot leave that out of the loss and the scores. Annotate these voxels, or give "
                "them the value of a class and remove the label; if it is a class, give it another "
                "name."
            )
    values = tuple(sorted(numbered))
    return Declared(tuple(numbered[value] for value in values), values, coding)


def _colour(value: Any) -> int | None:
    """Return 65536 * red + 256 * green + blue of `[red, green, blue]` or `#rrggbb`."""
    if isinstance(value, str) and _HEX.match(value):
        return int(value[1:], 16)
    if (
        isinstance(value, list)
        and len(value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    ):
        red, green, blue = value
        return 65536 * int(red) + 256 * int(green) + int(blue)
    return None


def _read_colours(path: Path) -> dict[str, int]:
    """Return the colour of each class in a table of colours."""
    colours: dict[str, int] = {}
    rows = _rows_of_csv(path) if path.suffix == ".csv" else _rows_of_cvat(path)
    for number, name, parts in rows:
        colour = _colour([int(part) if part.strip().isdecimal() else -1 for part in parts])
        if colour is None or not name:
            raise UserError(
                f"{path}, line {number}: expected a name and three numbers from 0 to 255, as "
                "name:red,green,blue:parts:actions (labelmap.txt) or in the columns name, r, g, b "
                f"(class_dict.csv); it has {name!r} and {', '.join(parts)!r}."
            )
        if name in colours:
            raise UserError(
                f"{path}, line {number}: expected each class once; {name!r} occurs twice."
            )
        colours[name] = colour
    return colours


def _rows_of_cvat(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(":")
            yield number, composed(name.strip()), rest.partition(":")[0].split(",")


def _rows_of_csv(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    for number, row in read_rows(path):
        yield number, row.get("name", ""), [row.get(channel, "") for channel in "rgb"]


def _other_form(labels: Any, path: Path) -> UserError:
    return UserError(
        f'{path}: expected "labels": {{"background": 0, "name": 1, ...}}; it holds {labels!r:.200}.'
    )


def _not_apart(labels: Any, path: Path) -> UserError:
    return UserError(
        f"{path}: expected two or more labels of different names and values, 0 for the background; "
        f"it declares {labels!r:.200}."
    )
