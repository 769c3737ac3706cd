"""The plan: its steps, their requirements, and the folders. It needs only the standard library."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

PACKED = HERE / "packed"
"""Files to copy in addition to the working tree; git ignores this folder."""

KEPT = ROOT / "runs" / "gpu"
"""Run folders and records that stay on the GPU machine; git ignores this folder."""

RESULTS = ROOT / "docs" / "results" / "gpu"
"""Returned records, one JSON file per step; `results.py` writes them."""

LIMIT = 64 * 2**20
"""Limit for the working tree and the carried files together, in bytes."""

LARGEST_RESULT = 16 * 2**20
"""Limit for one returned file, in bytes."""


class Step(NamedTuple):
    """A step of the plan.

    Attributes:
        about: the question that it answers.
        module: module with its function `run(record, name, device, tiny, seconds)`.
        seconds: default time limit in seconds.
        data: names of the packed data sets that it needs.
    """

    about: str
    module: str
    seconds: int
    data: tuple[str, ...] = ()


STEPS = {
    "correct": Step(
        "the tests on a GPU; the same probabilities as on the CPU; the same bytes twice",
        "correct",
        150,
    ),
    "fast": Step(
        "`cdal bench`, where the time goes, batch sizes, `torch.compile`, CUDA graphs", "fast", 160
    ),
    "paper-monuseg": Step("the paper's network on MoNuSeg", "trainings", 480, ("monuseg",)),
    "paper-cxr": Step("the paper's network on X-rays", "trainings", 480, ("cxr",)),
    "paper-hippocampus": Step(
        "the paper's network on the hippocampus", "trainings", 480, ("hippocampus",)
    ),
    "systems-hippocampus": Step(
        "every system with the same seconds: hippocampus, fold 0",
        "trainings",
        480,
        ("hippocampus",),
    ),
    "systems-cxr": Step("every system with the same seconds: X-rays", "trainings", 480, ("cxr",)),
    "systems-monuseg": Step(
        "every system with the same seconds: MoNuSeg", "trainings", 480, ("monuseg",)
    ),
    "annotators-lidc": Step(
        "whose votes are distributed as radiologists are: nodules with four annotators",
        "experiments",
        400,
        ("lidc_nodules",),
    ),
    "ingredients-lidc": Step(
        "which ingredients matter where several annotators differ: the same nodules",
        "experiments",
        560,
        ("lidc_nodules",),
    ),
    "sizes-hippocampus": Step(
        "every size of the default with the same time: hippocampus",
        "trainings",
        480,
        ("hippocampus",),
    ),
}
"""Steps in the order in which to run them."""


def carried(steps: list[str]) -> list[Path]:
    """The packed folders that these steps need."""
    return [
        PACKED / "wheels",
        *(PACKED / name for name in sorted({name for step in steps for name in STEPS[step].data})),
    ]


def command(steps: list[str]) -> str:
    """The command that runs these steps on the GPU machine."""
    return f"python3 {HERE.relative_to(ROOT)}/run.py {' '.join(steps)} --out $OUT"


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; `None` if the file is missing or damaged.

    A damaged file is renamed.
    """
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"step", "tiny", "state", "machine", "parts"} <= set(record):
            raise ValueError("it is not the record of a step")
    except ValueError as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        print(f"{path} is damaged ({error}) and was renamed {aside.name}.", file=sys.stderr)
        return None
    return record


def missing(content: Mapping[str, Any]) -> list[str]:
    """Names of the expected parts that are missing from a record or failed."""
    parts = content["parts"]
    return [
        name for name in content.get("expected", parts) if "error" in parts.get(name, {"error": ""})
    ]
