"""`cdal info`: List recipes, segmenters, scoring protocols and models, or describe one model."""

from __future__ import annotations

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
    from cdal.segmenters.find_models import find_models
    from cdal.segmenters.model_header import join_headers, named_models, read_header

    files = find_models(name)
    headers = [
        read_description(path).header if path.suffix in GRAPHS.values() else read_header(path)
        for path in files
    ]
    header = headers[0] if len(files) == 1 else join_headers(*named_models(headers, files))
    where = {"file": str(files[0])} if len(files) == 1 else {"files": [*map(str, files)]}
    settings = header.recipe.segmenter
    what = {
        "segmenter": settings.name,
        "votes": settings.votes,
        "classes": list(header.classes),
        "image_channels": header.image_channels,
        "licence": header.licence,
    }
    values = header.to_dict()
    # Matrices and lists of residuals say nothing to a reader; the file holds them.
    values.pop("quality", None)
    seen = values.pop("training_images", None) or {}
    brief = {name: seen[name] for name in ("count", "lengths", "spacing") if name in seen}
    known = {"quality_cases": header.quality.get("cases"), "training_images": brief or None}
    return {**where, **(what if header.members else {}), **values, **known}


def _everything() -> dict[str, Any]:
    from cdal.recipes import DERIVED, RECIPES
    from cdal.recipes.protocols import PROTOCOLS
    from cdal.recipes.systems import SYSTEMS
    from cdal.segmenters.find_models import shipped_models

    return {
        "version": __version__,
        "recipes": {name: (make.__doc__ or "").splitlines()[0] for name, make in RECIPES.items()}
        | DERIVED,
        "segmenters": {name: system.about for name, system in SYSTEMS.items()},
        "scoring": {name: protocol.about for name, protocol in PROTOCOLS.items()},
        "models": {name: str(path) for name, path in shipped_models().items()},
    }
