"""Which classes outside this package a model file may name.

A model of your own network holds the name of its class. To load the model, the module of the class
is imported, which runs that module's code. So a model file from a stranger could run any module
that is installed. It may only name classes that the user has trusted.
"""

from __future__ import annotations

import os

from cdal.recipes.baselines import OwnSettings
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError

_VARIABLE = "CDAL_TRUST_OWN_NETWORK"
"""Environment variable: 1 trusts all classes, also in processes that this one starts."""

_trusted: set[str] = set()


def trust_own_network(name: str | None = None) -> None:
    """Let model files name a class outside this package.

    Args:
        name: name of the class, `package.module.Class`; `None` for all classes, in this process and
            those that it starts.
    """
    if name is None:
        os.environ[_VARIABLE] = "1"
    else:
        _trusted.add(name)


def own_networks(recipe: Recipe) -> list[str]:
    """The classes outside this package that a recipe names, each once."""
    parts = recipe.segmenter.parts
    return list(dict.fromkeys(part.name for part in parts if isinstance(part, OwnSettings)))


def need_trusted(path: object, recipe: Recipe) -> None:
    """Check that the network of a model file is this package's own, or trusted.

    Args:
        path: path of the file, for the message.
        recipe: its recipe.

    Raises:
        UserError: it is a class that the user has not trusted.
    """
    if os.environ.get(_VARIABLE) == "1":
        return
    if strange := [name for name in own_networks(recipe) if name not in _trusted]:
        raise UserError(
            f"{path} names a network outside cDAL, {strange[0]}, whose module would be imported "
            "and run. If you trust whoever made the file, give --trust-own-network (in Python: "
            f"cdal.trust_own_network({strange[0]!r}))."
        )
