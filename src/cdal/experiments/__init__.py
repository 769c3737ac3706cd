"""Shipped experiments: questions with the trainings that answer them, one command each (`cdal experiment`)."""

from __future__ import annotations

import difflib

from cdal.experiments.experiment import Experiment
from cdal.experiments.ingredients import ingredients
from cdal.experiments.systems import systems
from cdal.runtime.errors import UserError

_FIVE_VOTES = {"segmenter.votes": 5}
"""The paper's number of votes; 15, the default here, are among the ways to sample."""

_EVERY_STEP = {"segmenter.discriminator_every": 1}
"""As in the paper, so that what is said of attention and adversarial term is said of them at their strongest."""

_AS_FOUND = {"data.components": 0, "data.mirror_votes": False, "training.calibrate": False}
"""Systems are compared by what they find at one look, and how sure they are of it, before anything is mended afterwards."""

_SMALLER = {"data.size": (128, 128), "data.shift": 8}
"""Pictures at half the resolution and windows of half the side, so that two cores train many variants with several seeds."""

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        ingredients("phantoms", 250, {"segmenter.votes": 16, **_EVERY_STEP, **_AS_FOUND}),
        ingredients("hippocampus", 300, {**_FIVE_VOTES, **_EVERY_STEP, **_AS_FOUND}),
        ingredients("monuseg", 600, {**_FIVE_VOTES, **_EVERY_STEP, **_AS_FOUND, "data.resize": (512, 512), **_SMALLER}, large=True),
        ingredients("cxr", 400, {**_FIVE_VOTES, **_EVERY_STEP, **_AS_FOUND, "data.resize": (128, 128), **_SMALLER}, large=True),
        systems("hippocampus", "2h", {**_FIVE_VOTES, **_AS_FOUND}),
        systems("monuseg", "2h", {**_FIVE_VOTES, **_AS_FOUND}),
        systems("cxr", "2h", {**_FIVE_VOTES, **_AS_FOUND}),
    )
}


def find_experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"no experiment {name!r}.{hint} There are: {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]
