"""Shipped recipes: functions that return a `Recipe`, one file for each data set."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from cdal.recipes.recipe import Recipe, load_recipe
from cdal.recipes.shipped.cxr import cxr, cxr_paper
from cdal.recipes.shipped.hippocampus import hippocampus, hippocampus_paper, hippocampus_slices
from cdal.recipes.shipped.lidc import lidc
from cdal.recipes.shipped.monuseg import monuseg, monuseg_paper
from cdal.recipes.shipped.phantoms import phantoms
from cdal.recipes.variants import with_segmenter
from cdal.runtime.errors import UserError

__all__ = ["DERIVED", "RECIPES", "find_recipe", "with_segmenter"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "hippocampus": hippocampus,
    "hippocampus-slices": hippocampus_slices,
    "hippocampus-paper": hippocampus_paper,
    "monuseg": monuseg,
    "monuseg-paper": monuseg_paper,
    "cxr": cxr,
    "cxr-paper": cxr_paper,
    "lidc": lidc,
    "phantoms": phantoms,
}

DERIVED = {"folder": "Derived from the images of your own data folder (cdal.datasets.derive)."}
"""Recipes that are derived from the data, by name, with a description."""


def find_recipe(name: str) -> Recipe:
    """The shipped recipe with that name, or the recipe read from a YAML file.

    Raises:
        UserError: no such recipe exists; the message lists the shipped ones. Or the file cannot be
            read as a recipe.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name in DERIVED:
        raise UserError(f"the recipe {name!r} is made from a data folder: give --data.")
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return load_recipe(path)
    close = difflib.get_close_matches(name, [*RECIPES, *DERIVED], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(
        f"no recipe {name!r}.{hint} Shipped: {', '.join([*RECIPES, *DERIVED])}; or give a YAML "
        "file."
    )
