"""Steps that run a shipped experiment, several trainings on the GPU at a time.

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

from cdal.cli.words import DONE, IN_PART
from cdal.datasets.check import check_folder
from cdal.evaluation.result import SUMMARY
from cdal.experiments import EXPERIMENTS
from cdal.recipes.recipe import words_of
from cdal.runtime.cost import kept_cost

WORKERS = 12
"""Trainings at a time."""

_SPARE, _LOOK, _PATIENCE = 25.0, 5.0, 15.0
"""Seconds kept at the end, between two looks at what is scored, and for the command to stop."""

_FIELDS = {"training.validate_every": 500}
"""A validation takes as long as a hundred steps."""

_TINY = {
    "training.validate_every": 1,
    "training.precision": "32",
    "segmenter.channels": "[8,8,8]",
    "segmenter.votes": 2,
}

_KEPT_MODELS = ("cdal", "cdal-deterministic")
"""Systems whose models come back, each in an archive of its own."""


def run(record: Record, name: str, device: str, tiny: bool, seconds: float) -> None:
    """Run the experiment of the step's name until it ends or the time is over.

    Trainings of other machines are repeated, because the ensembles need the models.
    """
    out = KEPT / "runs" / (f"{name}-tiny" if tiny else name)
    words = [sys.executable, "-m", "cdal", "experiment", name, "--data"]
    words += [str(PACKED / STEPS[name].data[0]), "--out", str(out), "--device", device]
    words += ["--workers", str(2 if tiny else WORKERS), *words_of(_TINY if tiny else _FIELDS)]
    experiment = EXPERIMENTS[name]
    record.content["parts"].clear()
    if tiny:
        words += ["--arms", list(experiment.arms)[-1], "--seeds", "0", "--budget", "2steps"]
    else:
        jobs = experiment.jobs(check_folder(PACKED / STEPS[name].data[0]), out)
        record.expect(dict.fromkeys(part_of(job.folder) for job in jobs))
    until = time.monotonic() + seconds - _SPARE
    process, packed = subprocess.Popen(words, cwd=ROOT), set[Path]()
    while process.poll() is None and time.monotonic() < until:
        time.sleep(_LOOK)
        collect(record, name, out, packed)
    ended = process.poll()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
    collect(record, name, out, packed)
    if ended not in (None, DONE, IN_PART):
        raise SystemExit(f"the experiment ended with exit code {ended}.")


def collect(record: Record, name: str, out: Path, packed: set[Path]) -> None:
    """Add the trainings that are scored by now to the record, and pack them anew.

    `packed` holds the scores that an earlier call has packed.
    """
    scored = sorted((out / name).glob(f"*/*/evaluation*/{SUMMARY}"))
    if packed.issuperset(scored):
        return
    packed.update(scored)
    folders = list(dict.fromkeys(path.parents[1] for path in scored))
    for folder in folders:
        if part_of(folder) not in record.content["parts"]:
            record.part(part_of(folder), lambda folder=folder: scores(folder))
    pack(folders, out, record.path.with_name(f"{name}.tar.gz"))
    for system in _KEPT_MODELS:
        models = [folder for folder in folders if folder.parent.name == system]
        pack(models, out, record.path.with_name(f"{name}-{system}.tar"), ["model.safetensors"])


def part_of(folder: Path) -> str:
    """Name of the part of a run folder: its system, and its fold and seed."""
    return f"{folder.parent.name} {folder.name}"


def scores(folder: Path) -> dict[str, object]:
    """The cost and the scores of one training."""
    summary = min(folder.glob(f"evaluation*/{SUMMARY}"))  # of the recipe's own sampling
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
