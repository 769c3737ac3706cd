"""The step of several annotators: the shipped experiment, several trainings on the GPU at a time.

The trainings are small: one alone leaves most of the GPU idle. The scores of every case come back
in one archive, so that `cdal experiment` writes its page from them on any machine.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from plan import KEPT, PACKED, ROOT, STEPS
from record import Record

from cdal.evaluation.result import SUMMARY
from cdal.recipes.recipe import words_of
from cdal.runtime.cost import kept_cost

WORKERS = 8
"""Trainings at a time."""

_SPARE = 30.0
"""Seconds kept for a training to stop, and for the archives."""

_FIELDS = {"training.validate_every": 500}
_TINY = {
    "training.validate_every": 1,
    "training.precision": "32",
    "segmenter.channels": "[8,8,8]",
    "segmenter.votes": 2,
}

_KEPT_MODELS = ("cdal", "cdal-deterministic")
"""Systems whose models come back, each in an archive of its own."""


def run(record: Record, name: str, device: str, tiny: bool, seconds: float) -> None:
    """Run the experiment of the step's name until it ends or the time is over."""
    out = KEPT / "runs" / (f"{name}-tiny" if tiny else name)
    words = [sys.executable, "-m", "cdal", "experiment", name, "--data"]
    words += [str(PACKED / STEPS[name].data[0]), "--out", str(out), "--device", device]
    words += [*words_of(_TINY if tiny else _FIELDS)]
    if tiny:
        words += ["--arms", "cdal-deterministic", "--seeds", "0", "--budget", "2steps"]
    else:
        words += ["--workers", str(WORKERS)]
    until = time.monotonic() + seconds - _SPARE
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        process.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
    folders = sorted(path.parents[1] for path in (out / name).glob(f"*/*/evaluation*/{SUMMARY}"))
    for folder in folders:
        record.part(" ".join(folder.relative_to(out / name).parts), lambda f=folder: scores(f))
    pack(folders, out, record.path.with_name(f"{name}.tar.gz"))
    for system in _KEPT_MODELS:
        models = [folder for folder in folders if folder.parent.name == system]
        pack(models, out, record.path.with_name(f"{name}-{system}.tar"), ["model.safetensors"])


def scores(folder: Path) -> dict[str, object]:
    """The cost and the scores of one training."""
    summary = next(folder.glob(f"evaluation*/{SUMMARY}"))
    return {
        "training": kept_cost(folder),
        "summary": json.loads(summary.read_text(encoding="utf-8")),
        "curve": [],
    }


def pack(
    folders: list[Path],
    root: Path,
    archive: Path,
    names: list[str] | None = None,
) -> None:
    """Pack files of run folders: those of these names, or all small ones that hold results."""
    wanted = names or ["*.yaml", "cost.json", "splits.json", "evaluation*"]
    mode = "w:gz" if archive.suffix == ".gz" else "w"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for folder in folders:
            for path in sorted(path for pattern in wanted for path in folder.glob(pattern)):
                tar.add(path, path.relative_to(root))
