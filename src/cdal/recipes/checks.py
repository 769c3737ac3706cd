"""The values that a recipe's data and training settings may have."""

from __future__ import annotations

import math

from cdal.recipes.protocols import PROTOCOLS
from cdal.recipes.settings import DRAWN, MOST, DataSettings, TrainingSettings, need


def check_data(data: DataSettings) -> None:
    """Refuse values that no run could use.

    Raises:
        UserError: the message names the field, the expected values and the given value.
    """
    dims = data.spatial_dims
    need(data, "data.spatial_dims", lambda d: d in (2, 3), "2 or 3")
    need(data, "data.size", lambda size: len(size) == dims, f"{dims} numbers (data.spatial_dims)")
    need(
        data,
        "data.size",
        lambda size: min(size) >= 1 and max(size) <= MOST,
        f"numbers of 1 to {MOST}",
    )
    need(
        data,
        "data.spacing",
        lambda s: s is None or (len(s) == 3 and min(s) > 0),
        "3 numbers above 0, or null",
    )
    need(data, "data.folds", lambda folds: folds >= 3, "at least 3 (test, validation and training)")
    # Other partitions define their own number of folds.
    limited = data.partition in DRAWN
    need(
        data,
        "data.fold",
        lambda fold: 0 <= fold < (data.folds if limited else math.inf),
        f"0 to {data.folds - 1}" if limited else "0 or more",
    )
    need(data, "data.components", lambda number: number >= 0, "0 or more")
    need(data, "data.neighbours", lambda number: 0 <= number <= 100, "0 to 100")
    need(data, "data.slice_axis", lambda axis: axis in (0, 1, 2), "0, 1 or 2")
    need(
        data,
        "data.flips",
        lambda flips: set(flips) <= set(range(dims)) and len(set(flips)) == len(flips),
        f"axes among {list(range(dims))}, each once",
    )
    need(
        data,
        "data.channels",
        lambda channels: channels is None or channels >= 1,
        "1 or more, or null",
    )
    need(
        data,
        "data.resize",
        lambda size: size is None or (dims == 2 and min(size) >= 1 and max(size) <= MOST),
        f"2 numbers up to {MOST} (pictures only), or null",
    )
    need(data, "data.partition", lambda name: bool(name), "a name")
    known = f"some of {', '.join(PROTOCOLS)}"
    need(
        data,
        "data.protocols",
        lambda names: len(names) >= 1 and set(names) <= set(PROTOCOLS),
        known,
    )
    need(data, "data.overlap", lambda share: 0 <= share < 1, "at least 0 and below 1")
    need(data, "data.whole", lambda times: times >= 1, "1 or more")
    need(data, "data.position", lambda seen: not seen or dims == 2, "false for volumes")
    for name in ("foreground", "collimation"):
        need(data, f"data.{name}", lambda share: 0 <= share <= 1, "between 0 and 1")
    colour = data.intensities == "range" and data.channels in (3, None)
    need(
        data,
        "data.stain",
        lambda strength: strength == 0 or colour,
        "0 unless data.intensities is range and there are 3 channels",
    )
    for name in ("rotation", "scaling", "shift", "intensity", "stain"):
        need(data, f"data.{name}", lambda strength: strength >= 0, "0 or more")


def check_training(training: TrainingSettings) -> None:
    """Refuse values that no run could use; raises the same errors as `check_data`."""
    has_budget = training.minutes is not None
    need(
        training,
        "training.steps",
        lambda steps: steps is not None or has_budget,
        "a number if training.minutes is null",
    )
    for name in (
        "steps",
        "batch",
        "annotators",
        "validate_every",
        "validation_votes",
        "validation_cases",
        "checkpoint_every",
    ):
        need(
            training, f"training.{name}", lambda number: number is None or number >= 1, "1 or more"
        )
    for name in ("minutes", "learning_rate", "discriminator_learning_rate", "clip"):
        need(
            training, f"training.{name}", lambda number: number is None or number > 0, "more than 0"
        )
    for name in ("ema", "warmup"):
        need(training, f"training.{name}", lambda share: 0 <= share < 1, "at least 0 and below 1")
    need(
        training,
        "training.betas",
        lambda betas: all(0 <= beta < 1 for beta in betas),
        "at least 0 and below 1",
    )
    for name in ("weight_decay", "seed"):
        need(training, f"training.{name}", lambda number: number >= 0, "0 or more")
