"""What formats share whose files hold the annotations of several pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cdal.runtime.errors import UserError
from cdal.runtime.text import composed


def places_of(names: Iterable[str]) -> dict[str, list[int]]:
    """Return where each file name occurs, however its accents are stored."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(composed(name), []).append(place)
    return places


def find_image(name: str, places: Mapping[str, Sequence[int]]) -> int:
    """Return which of the pictures of a shared file has a file name.

    Args:
        name: file name of the picture.
        places: result of `places_of` for the pictures of the file.

    Raises:
        UserError: there is none, or there are several.
    """
    found = places.get(composed(name), ())
    if len(found) != 1:
        listed = ", ".join(list(places)[:3]) + (", ..." if len(places) > 3 else "")
        count = "several pictures" if found else "no picture"
        raise UserError(
            f"it lists {count} called {name}; it lists {listed or 'none'}. Give each picture the "
            "file name under which it is listed, once."
        )
    return found[0]


def base_name(name: str) -> str:
    """Return a file name without its folders, of whichever system."""
    return PurePosixPath(name.replace("\\", "/")).name


def filled(runs: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
    """Return runs of outside and inside in turn as `[rows, columns]` bool, row by row.

    Raises:
        UserError: a run is no length, or they do not fill the shape.
    """
    total = shape[0] * shape[1]
    if not all(isinstance(run, int) and 0 <= run <= total for run in runs) or sum(runs) != total:
        raise UserError(
            f"expected a run-length encoding of {total} pixels; its runs are not. Export it again."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
