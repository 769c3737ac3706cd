"""`cdal info`: List recipes, segmenters, scoring protocols and models, or describe one model."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DONE, MODEL, add_json
from cdal.runtime.version import __version__


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("model", type=str | None, nargs="?", help=MODEL)
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import show_values

    values = _everything() if options.model is None else _model(options.model)
    print(json.dumps(values)) if options.json else show_values(values)
    return DONE


def _model(name: str) -> dict[str, Any]:
    from cdal.inference.graph_engine import GRAPHS, read_description
    from cdal.recipes.recipe import to_dict
    from cdal.segmenters.model_header import find_model, read_header

    path = find_model(name)
    header = read_description(path).header if path.suffix in GRAPHS.values() else read_header(path)
    return {"file": str(path), **dataclasses.asdict(header), "recipe": to_dict(header.recipe)}


def _everything() -> dict[str, Any]:
    from cdal.recipes import DERIVED, RECIPES
    from cdal.recipes.protocols import PROTOCOLS
    from cdal.recipes.systems import SYSTEMS
    from cdal.segmenters.model_header import shipped_models

    return {
        "version": __version__,
        "recipes": {name: (make.__doc__ or "").splitlines()[0] for name, make in RECIPES.items()}
        | DERIVED,
        "segmenters": {name: system.about for name, system in SYSTEMS.items()},
        "scoring": {name: protocol.about for name, protocol in PROTOCOLS.items()},
        "models": {name: str(path) for name, path in shipped_models().items()},
    }
