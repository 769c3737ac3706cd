"""Where models are: files, run folders, shipped ones, several that vote together, and the hub.

Nothing here needs PyTorch.
"""

from __future__ import annotations

import re
from pathlib import Path

from cdal.runtime.cost import kept_cost
from cdal.runtime.errors import UserError
from cdal.segmenters import hub
from cdal.segmenters.model_header import MODEL, SUFFIX

_RUN = re.compile(r"fold-(\d+)(?:-seed-(\d+))?")
"""Name of a run in a cross-validation: its fold, and its seed if it is not the recipe's."""

_SHIPPED = (Path(__file__).parents[1] / "models", Path(__file__).parents[3] / "models")
"""Folders of the shipped models: in a wheel, and in a clone of the repository."""


def find_model(name: str | Path, download: bool = True) -> Path:
    """Find a model file: the file itself, that of a run folder, a shipped one, or one of the hub.

    Args:
        name: path of the file or of the run folder, name of a shipped model, or
            `hf://owner/name[@revision]`, see `cdal.segmenters.hub`.
        download: whether a model of the hub may be downloaded; otherwise it must have been before.

    Raises:
        UserError: the model does not exist; the message lists the shipped models. Or the hub does
            not give it.
    """
    if hub.is_hub_name(name):
        return hub.fetch(name, download)
    path = Path(name)
    if path.is_file():
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    shipped = shipped_models()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.is_dir():
        raise UserError(
            f"{path} holds no {MODEL}. Expected a folder that cdal train wrote, after its "
            "first validation; where models may vote together, the folder of a cross-validation."
        )
    raise UserError(
        f"no model {name}: neither a file, nor a run folder, nor shipped. Shipped: "
        f"{', '.join(shipped) or 'none'}."
    )


def shipped_models() -> dict[str, Path]:
    """Name and path of each model that is shipped with the package."""
    return {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob(f"*{SUFFIX}"))}


def short_name(path: Path) -> str:
    """Name of a model by its file: that of the file, of its run folder, or its name on the hub."""
    if path.stem != "model":
        return path.stem
    return hub.name_of(path) or path.parent.resolve().name


def find_models(name: str | Path) -> tuple[Path, ...]:
    """Find the model files of a name that stands for one model or for several.

    Args:
        name: as for `find_model`; or a folder that `cdal crossval` wrote with one system, or the
            folder of a system in it. Such a folder stands for the models of all its runs, in the
            order of fold and seed.

    Raises:
        UserError: as `find_model`; or the folder holds several systems, or a run that is not
            finished.
    """
    folder = Path(name)
    if hub.is_hub_name(name) or not folder.is_dir() or (folder / MODEL).is_file():
        return (find_model(name),)
    runs = _runs(folder)
    if not runs:
        systems = sorted(path for path in folder.iterdir() if path.is_dir() and _runs(path))
        if len(systems) > 1:
            raise UserError(
                f"{folder} holds the models of several systems: "
                f"{', '.join(path.name for path in systems)}. Name the folder of one: {systems[0]}."
            )
        runs = _runs(systems[0]) if systems else ()
    for run in runs:
        if not kept_cost(run) or not (run / MODEL).is_file():
            raise UserError(
                f"{run}: its training is not finished, or failed. Finish the cross-validation, or "
                "give the finished models one by one to cdal ensemble."
            )
    return tuple(run / MODEL for run in runs) or (find_model(name),)


def _runs(folder: Path) -> tuple[Path, ...]:
    """Runs of the folder of a system, by fold and seed; seeds without a number come first."""
    found = [(match, path) for path in folder.iterdir() if (match := _RUN.fullmatch(path.name))]
    ordered = sorted(found, key=lambda run: (int(run[0][1]), int(run[0][2] or -1)))
    return tuple(path for _, path in ordered if path.is_dir())
