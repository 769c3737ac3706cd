"""Shipped experiments, each a question with the trainings that answer it (`cdal experiment`)."""

from __future__ import annotations

import difflib

from cdal.experiments.annotators import annotators, ingredients_of_votes
from cdal.experiments.experiment import Experiment
from cdal.experiments.ingredients import ingredients
from cdal.experiments.ranking import RANKINGS, Rounds
from cdal.experiments.systems import systems
from cdal.runtime.errors import UserError

_FIVE_VOTES = {"segmenter.votes": 5}
"""The paper's number of votes. 15, the default here, is one of the experiments' samplings."""

_SIXTEEN_VOTES = {"segmenter.votes": 16}
"""The number with which the literature compares votes with several annotators."""

_EVERY_STEP = {"segmenter.discriminator_every": 1}
"""As in the paper, so that attention and the adversarial term are tested at full strength."""

_RAW = {"data.components": 0, "data.mirror_votes": False, "training.calibrate": False}
"""Comparisons use raw predictions: no test-time mirroring, component filtering or calibration."""

_SMALLER = {"data.size": (128, 128), "data.shift": 8}
"""Smaller windows, used with pictures of half the resolution.

Two CPU cores can then train many variants with several seeds.
"""

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        ingredients("phantoms", 250, {**_SIXTEEN_VOTES, **_EVERY_STEP, **_RAW}),
        ingredients("hippocampus", 300, {**_FIVE_VOTES, **_EVERY_STEP, **_RAW}),
        ingredients(
            "monuseg",
            600,
            {**_FIVE_VOTES, **_EVERY_STEP, **_RAW, "data.resize": (512, 512), **_SMALLER},
            large=True,
        ),
        ingredients(
            "cxr",
            400,
            {**_FIVE_VOTES, **_EVERY_STEP, **_RAW, "data.resize": (128, 128), **_SMALLER},
            large=True,
        ),
        ingredients_of_votes("lidc", 1000, {**_SIXTEEN_VOTES, **_EVERY_STEP, **_RAW}),
        annotators("lidc", "2000steps", {**_SIXTEEN_VOTES, **_RAW}),
        systems("hippocampus", "2h", {**_FIVE_VOTES, **_RAW}),
        systems("monuseg", "2h", {**_FIVE_VOTES, **_RAW}),
        systems("cxr", "2h", {**_FIVE_VOTES, **_RAW}),
    )
}


def shipped() -> dict[str, Experiment | Rounds]:
    """All shipped experiments, by name."""
    return {**EXPERIMENTS, **RANKINGS}


def find_experiment(name: str) -> Experiment | Rounds:
    """Look up a shipped experiment by its name.

    Raises:
        UserError: no experiment has this name; the message lists the existing ones.
    """
    found = shipped()
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"no experiment {name!r}.{hint} There are: {', '.join(found)}.")
    return found[name]
