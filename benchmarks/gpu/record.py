"""What a step found: one JSON file, written anew after each part, so that a step that is stopped loses no more than a part."""

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
    """The parts of a step by name: what each found, or its error.

    Parts that an earlier run of the same kind finished are not run again: a run on this machine, or one whose record came back and
    was committed.

    Args:
        step: its name.
        out: where the record goes, beside the one that is kept.
        device: `cuda` or `cpu`.
        tiny: whether this is a rehearsal.
    """

    def __init__(self, step: str, out: Path, device: str, tiny: bool) -> None:
        self.path, self.kept = out / f"{step}.json", KEPT / f"{step}{'-tiny' if tiny else ''}.json"
        self.content: dict[str, Any] = {"step": step, "tiny": tiny, "state": "begun", "machine": about(device), "parts": {}}
        for earlier in (read_record(RESULTS / f"{step}.json"), read_record(self.kept)):
            if earlier is not None and earlier["tiny"] == tiny:
                self.content["parts"] |= {name: part for name, part in earlier["parts"].items() if "error" not in part}
        self.write()

    def expect(self, names: Iterable[str]) -> None:
        """Say which parts the step has, so that a record tells what it lacks."""
        self.content["expected"] = list(names)
        self.write()

    def part(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Run a part and write what it found; its error where it fails. A part that is there already is not run."""
        if name in self.content["parts"]:
            print(f"[{name}] done already", flush=True)
            return
        print(f"[{name}]", flush=True)
        began = time.monotonic()
        try:
            found = run()
        except Exception as error:  # the other parts are still worth having
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        machine = self.content["machine"]
        found |= {"part_seconds": round(time.monotonic() - began, 1)}
        found |= {"on": machine["name"], "date": machine["date"], "code": machine["code"]}
        self.content["parts"][name] = found
        self.write()
        print(f"[{name}] {found['part_seconds']} s", flush=True)

    def done(self) -> None:
        """The step came to its end."""
        left = missing(self.content)
        self.content["state"] = f"without {', '.join(left)}" if left else "done"
        self.write()

    def write(self) -> None:
        """Both copies, each whole or not at all."""
        text = json.dumps(self.content, indent=1) + "\n"
        for path in (self.kept, self.path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)


def about(device: str) -> dict[str, Any]:
    """The machine, the versions, the code and the day."""
    import numpy
    import torch

    noted = PACKED / "wheels" / "revision.txt"
    facts: dict[str, Any] = {
        "name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "code": noted.read_text(encoding="utf-8").strip() if noted.is_file() else "",
        "date": time.strftime("%Y-%m-%d"),
    }
    if device == "cuda":
        asked = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() if shutil.which(asked[0]) else ""
        facts |= {"name": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        facts |= {"driver, memory": driver}
    return facts
