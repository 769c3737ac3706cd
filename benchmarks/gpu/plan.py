"""The plan: its steps, what each needs, and where things lie. A bare machine can read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

PACKED = HERE / "packed"
"""What travels beside the working tree; git ignores it."""

KEPT = ROOT / "runs" / "gpu"
"""Run folders and records on the GPU machine, kept there from one command to the next; git ignores it."""

RESULTS = ROOT / "docs" / "results" / "gpu"
"""Records that came back, one JSON file a step; `results.py` puts them there."""

LIMIT = 64 * 2**20
"""Bytes of the working tree and of what is carried, together."""

LARGEST_RESULT = 16 * 2**20
"""Bytes of one file that comes back."""


class Step(NamedTuple):
    """A step of the plan.

    Attributes:
        about: what it answers.
        module: what runs it, `module.run(record, name, device, tiny, seconds)`.
        seconds: its time limit, if no other is asked for.
        data: the packed sets that it needs.
    """

    about: str
    module: str
    seconds: int
    data: tuple[str, ...] = ()


STEPS = {
    "correct": Step("the tests on a GPU; the same probabilities as on the CPU; the same bytes twice", "correct", 150),
    "fast": Step("`cdal bench`, where the time goes, batch sizes, `torch.compile`, CUDA graphs", "fast", 160),
    "paper-monuseg": Step("the paper's network on MoNuSeg", "trainings", 480, ("monuseg",)),
    "paper-cxr": Step("the paper's network on X-rays", "trainings", 480, ("cxr",)),
    "paper-hippocampus": Step("the paper's network on the hippocampus", "trainings", 480, ("hippocampus",)),
    "systems-hippocampus": Step("every system with the same seconds: hippocampus, fold 0", "trainings", 480, ("hippocampus",)),
    "systems-cxr": Step("every system with the same seconds: X-rays", "trainings", 480, ("cxr",)),
    "systems-monuseg": Step("every system with the same seconds: MoNuSeg", "trainings", 480, ("monuseg",)),
    "default-long": Step("the default recipe with more steps and wider networks: hippocampus", "trainings", 480, ("hippocampus",)),
}
"""In the order in which they are to be run."""


def carried(steps: list[str]) -> list[Path]:
    """The packed folders that these steps need."""
    return [PACKED / "wheels", *(PACKED / name for name in sorted({name for step in steps for name in STEPS[step].data}))]


def command(steps: list[str]) -> str:
    """The one command that runs these steps on the GPU machine."""
    return f"python3 {HERE.relative_to(ROOT)}/run.py {' '.join(steps)} --out $OUT"


def read_record(path: Path) -> dict[str, Any] | None:
    """A record; `None` where there is none, or a damaged one, which is set aside."""
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"step", "tiny", "state", "machine", "parts"} <= set(record):
            raise ValueError("it is no record of a step")
    except ValueError as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        print(f"{path} is damaged ({error}) and was renamed {aside.name}.", file=sys.stderr)
        return None
    return record


def missing(content: Mapping[str, Any]) -> list[str]:
    """The parts that a record lacks, or in which it failed."""
    parts = content["parts"]
    return [name for name in content.get("expected", parts) if "error" in parts.get(name, {"error": ""})]
