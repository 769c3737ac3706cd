"""Tables that say which colour of a mask is which class."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from cdal.runtime.errors import UserError

TABLES = ("labelmap.txt", "class_dict.csv")
"""Names of the tables of CVAT and of CamVid."""

_CODE = re.compile(r"^#([0-9a-fA-F]{6})$")


def value_of(given: object) -> object:
    """Return the value of a colour `#rrggbb` in label images; anything else as it is."""
    found = _CODE.match(given) if isinstance(given, str) else None
    return int(found[1], 16) if found else given


def find_table(folders: Iterable[Path]) -> Path | None:
    """Return the first table of colours in some folders."""
    paths = (folder / name for folder in folders for name in TABLES)
    return next((path for path in paths if path.is_file()), None)


def read_table(path: Path) -> dict[str, int]:
    """Read a table of colours.

    `labelmap.txt` has lines `name:red,green,blue:parts:actions`, `class_dict.csv` the columns
    `name`, `r`, `g` and `b`.

    Returns:
        The value of each class in label images, 65536 * red + 256 * green + blue, the background
        first.

    Raises:
        UserError: the table cannot be read, or two classes have the same name or colour.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(_of_csv(text) if path.suffix == ".csv" else _of_cvat(text))
        colours = [(name.strip(), [int(part) for part in parts]) for name, parts in rows]
        if not all(
            name and len(parts) == 3 and min(parts) >= 0 and max(parts) < 256
            for name, parts in colours
        ):
            raise ValueError("a row has no name, or no three numbers from 0 to 255")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a table of colours: {error}. Expected "
            "name:red,green,blue:: (labelmap.txt), or the columns name, r, g, b (class_dict.csv)."
        ) from error
    values = {name: 65536 * red + 256 * green + blue for name, (red, green, blue) in colours}
    if len(values) < len(colours) or len(set(values.values())) < len(values):
        raise UserError(f"{path}: expected a name and a colour of its own for each class.")
    if 0 not in values.values():
        values["background"] = 0
    if len(values) < 2:
        raise UserError(f"{path}: expected the colour of one class or more; it holds none.")
    return dict(sorted(values.items(), key=lambda row: row[1]))


def grays_as_colours(array: np.ndarray, values: Mapping[str, int]) -> np.ndarray:
    """Return label values with the grays of a mask as the colours that a table declares.

    A mask in which every pixel is gray is read as one channel, so that white is 255.
    """
    for value in values.values():
        gray = value & 255
        if 0 < gray < value == gray * 0x010101 and gray not in values.values():
            array = np.where(array == gray, value, array)
    return array


def _of_cvat(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, colour = line.split(":")[:2]
            yield name, colour.split(",")


def _of_csv(text: str) -> Iterator[tuple[str, list[str]]]:
    for row in csv.DictReader(text.splitlines(), skipinitialspace=True):
        yield row["name"], [row[channel] for channel in "rgb"]
