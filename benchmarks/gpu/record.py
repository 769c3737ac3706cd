"""The record of a step: a JSON file that is rewritten after each part.

A step that is stopped loses one part at most.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from plan import KEPT, PACKED, RESULTS, missing, read_record


class Record:
    """The parts of a step by name, each with its results or its error.

    Parts that an earlier run finished are not run again. The earlier run may have been on this
    machine, or its record may be in `docs/results/gpu`. A rehearsal reuses only rehearsals.

    Args:
        step: name of the step.
        out: folder for the record. A second copy is kept in `runs/gpu` for later commands.
        device: `cuda` or `cpu`.
        tiny: whether this is a rehearsal.
    """

    def __init__(self, step: str, out: Path, device: str, tiny: bool) -> None:
        self.path, self.kept = out / f"{step}.json", KEPT / f"{step}{'-tiny' if tiny else ''}.json"
        self.content: dict[str, Any] = {
            "step": step,
            "tiny": tiny,
            "state": "begun",
            "machine": about(device),
            "parts": {},
        }
        for earlier in (read_record(RESULTS / f"{step}.json"), read_record(self.kept)):
            if earlier is not None and earlier["tiny"] == tiny:
                self.content["parts"] |= {
                    name: part for name, part in earlier["parts"].items() if "error" not in part
                }
        self.write()

    def expect(self, names: Iterable[str]) -> None:
        """Declare the parts of the step, so that the record shows which ones are missing."""
        self.content["expected"] = list(names)
        self.write()

    def part(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Run a part and write its results, or its error if it fails.

        A part that the record already holds is not run.
        """
        if name in self.content["parts"]:
            print(f"[{name}] done already", flush=True)
            return
        print(f"[{name}]", flush=True)
        began = time.monotonic()
        try:
            result = run()
        except Exception as error:  # the other parts can still run
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}"}
        machine = self.content["machine"]
        result |= {"part_seconds": round(time.monotonic() - began, 1)}
        result |= {"on": machine["name"], "date": machine["date"], "code": machine["code"]}
        self.content["parts"][name] = result
        self.write()
        print(f"[{name}] {result['part_seconds']} s", flush=True)

    def done(self) -> None:
        """Mark the end of the step and list the parts that are missing."""
        left = missing(self.content)
        self.content["state"] = f"without {', '.join(left)}" if left else "done"
        self.write()

    def write(self) -> None:
        """Write both copies, each atomically."""
        text = json.dumps(self.content, indent=1) + "\n"
        for path in (self.kept, self.path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)


def about(device: str) -> dict[str, Any]:
    """The machine, the versions of the packages and of this code, and the date."""
    import numpy
    import torch

    revision = PACKED / "wheels" / "revision.txt"
    facts: dict[str, Any] = {
        "name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "code": revision.read_text(encoding="utf-8").strip() if revision.is_file() else "",
        "date": time.strftime("%Y-%m-%d"),
    }
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        driver = (
            subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
            if shutil.which(query[0])
            else ""
        )
        facts |= {
            "name": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
        facts |= {"driver, memory": driver}
    return facts
