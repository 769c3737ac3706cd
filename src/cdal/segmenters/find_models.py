"""Where several models are that vote together. Nothing here needs PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

from cdal.runtime.cost import kept_cost
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import SUFFIX, find_model

_MODEL = f"model{SUFFIX}"
_RUN = re.compile(r"fold-(\d+)(?:-seed-(\d+))?")
"""Name of a run in a cross-validation: its fold, and its seed if it is not the recipe's."""


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
    if not folder.is_dir() or (folder / _MODEL).is_file():
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
        if not kept_cost(run) or not (run / _MODEL).is_file():
            raise UserError(
                f"{run}: its training is not finished, or failed. Finish the cross-validation, or "
                "give the finished models one by one to cdal ensemble."
            )
    return tuple(run / _MODEL for run in runs) or (find_model(name),)


def _runs(folder: Path) -> tuple[Path, ...]:
    """Runs of the folder of a system, by fold and seed; seeds without a number come first."""
    found = [(match, path) for path in folder.iterdir() if (match := _RUN.fullmatch(path.name))]
    ordered = sorted(found, key=lambda run: (int(run[0][1]), int(run[0][2] or -1)))
    return tuple(path for _, path in ordered if path.is_dir())
