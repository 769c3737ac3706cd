"""The benchmark: its parts, and their report as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdal.experiments.speed.growth import encoder, growth, model_of_cost
from cdal.experiments.speed.inference import TASKS, inference
from cdal.experiments.speed.machine import machine
from cdal.experiments.speed.runtimes import runtimes
from cdal.experiments.speed.timing import Row
from cdal.experiments.speed.training import time_to_dice, training
from cdal.recipes.systems import SYSTEMS
from cdal.runtime.devices import find_device
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import write_json, write_text
from cdal.runtime.machine import about
from cdal.runtime.version import __version__

PARTS = {
    **{name: f"every system on {task.about}" for name, task in TASKS.items()},
    "encoder": "the image network's speed, as a share of the best convolution of this machine",
    "growth": "cost against votes, steps, size, threads and processes",
    "runtimes": "a shipped model in PyTorch and as exported graphs",
    "training": "samples a second, and the share of the players' turns and of making batches",
    "dice": "time to a mean validation Dice on the hippocampus (needs --data)",
}
"""Parts of the benchmark with their descriptions. The machine itself is always measured."""

_ALWAYS = {
    "machine": "what this machine can do",
    "model of the cost": "seconds = encoder + V T denoiser, fitted to the volumes",
}

_TRAINING_STEPS = (40, 320)
"""Training steps on a CPU and on a GPU. The GPU takes more, so that recording hardly counts."""


@dataclass
class Measured:
    """Results of a benchmark.

    Attributes:
        about: machine, versions and number of rounds.
        parts: rows of each part; a row maps column headings to numbers or texts.
    """

    about: dict[str, Any]
    parts: dict[str, list[Row]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON file."""
        return {"about": self.about, **self.parts}

    def markdown(self) -> str:
        """The results as Markdown, one table for each part."""
        header = ", ".join(f"{key} {value}" for key, value in self.about.items())
        tables = [
            f"## {name}\n\n{(PARTS | _ALWAYS)[name]}\n\n{_table(rows)}"
            for name, rows in self.parts.items()
        ]
        return "\n\n".join([header, *tables]) + "\n"

    def write(self, out: Path) -> None:
        """Write `bench.json` and `bench.md` into a folder."""
        write_json(out / "bench.json", self.to_dict())
        write_text(out / "bench.md", self.markdown())


def bench(
    names: Sequence[str] = (),
    systems: Sequence[str] = (),
    data: Path | str | None = None,
    model: str = "hippocampus",
    rounds: int = 7,
    device: str = "auto",
    target: float = 0.87,
    out: Path | None = None,
    report: Report = silent,
) -> Measured:
    """Run parts of the benchmark.

    Args:
        names: names of parts, see `PARTS`. If empty, all parts are run; `dice` only if `data` is
            given.
        systems: names of the systems that the inference parts measure; all if empty.
        data: path of the hippocampus data folder, for `dice`.
        model: name or path of the model for `runtimes`.
        rounds: number of rounds; medians are reported.
        device: `auto`, `cpu` or `cuda`.
        target: mean validation Dice to reach, for `dice`.
        out: folder for `bench.json` and `bench.md`, rewritten after each part.
        report: receives the progress, in parts.

    Raises:
        UserError: a part or a system does not exist, or the data are missing.
    """
    unknown = [name for name in names if name not in PARTS] + [
        name for name in systems if name not in SYSTEMS
    ]
    if unknown:
        raise UserError(
            f"no {', '.join(unknown)} to measure. Parts: {', '.join(PARTS)}. Systems: "
            f"{', '.join(SYSTEMS)}."
        )
    chosen = list(names) or [name for name in PARTS if name != "dice" or data is not None]
    if "dice" in chosen and data is None:
        raise UserError("dice needs --data: the hippocampus data folder.")
    if rounds < 1:
        raise UserError(f"--rounds must be 1 or more; it is {rounds}.")
    device_type = find_device(device).type
    report(Event("measuring", "machine", 0, 1 + len(chosen)))
    measured = Measured(
        {"version": __version__, "rounds": rounds, **about(device_type)},
        {"machine": machine(rounds, device_type)},
    )
    for number, name in enumerate(chosen, start=1):
        report(Event("measuring", name, number, 1 + len(chosen)))
        if name in TASKS:
            measured.parts[name] = inference(
                name, systems or tuple(SYSTEMS), measured.parts["machine"], rounds, device_type
            )
        elif name == "encoder":
            measured.parts[name] = encoder(measured.parts["machine"], rounds, device_type)
        elif name == "growth":
            measured.parts[name] = growth(rounds, device_type)
            measured.parts["model of the cost"] = [model_of_cost(measured.parts[name])]
        elif name == "runtimes":
            measured.parts[name] = runtimes(model, rounds)
        elif name == "training":
            measured.parts[name] = training(_TRAINING_STEPS[device_type == "cuda"], device_type)
        else:
            assert data is not None  # checked above
            measured.parts[name] = [time_to_dice(Path(data), target, 12, device_type)]
        if out is not None:
            measured.write(out)
    return measured


def _table(rows: list[Row]) -> str:
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(row.get(head)) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
