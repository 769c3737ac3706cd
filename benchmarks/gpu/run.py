"""Run steps of the plan on the GPU machine, from the carried files alone.

    python3 benchmarks/gpu/run.py next --out $OUT

Each step runs in its own process with a time limit. It writes STEP.json and STEP.log into the
output folder, and STEP.safetensors if its model is small enough. `next` is the first step without a
finished record. `--together` runs several steps at the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from plan import KEPT, PACKED, RESULTS, ROOT, STEPS, read_record

_GRACE = 20.0
"""Seconds that a step has after its time limit to end before it is killed."""


def install() -> Path:
    """Install the carried wheels into a separate folder and return it.

    Child processes import from this folder. It is made once for each set of wheels.
    """
    wheels = sorted((PACKED / "wheels").glob("*.whl"))
    if not wheels:
        raise SystemExit(
            f"{PACKED / 'wheels'} holds no wheels: run pack.py first, and carry what it names."
        )
    site = KEPT / f"site-{zlib.crc32(' '.join(wheel.name for wheel in wheels).encode()):08x}"
    if not site.is_dir():
        site.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=site.parent) as scratch:
            options = [
                "--quiet",
                "--no-index",
                "--no-deps",
                "--no-compile",
                "--target",
                f"{scratch}/site",
            ]
            subprocess.run(
                [sys.executable, "-m", "pip", "install", *options, *map(str, wheels)], check=True
            )
            with contextlib.suppress(OSError):  # another process was faster
                Path(scratch, "site").rename(site)
    return site


def next_step(chosen: Sequence[str]) -> str:
    """The first step that is neither chosen already nor recorded as done."""
    for name in STEPS:
        records = [read_record(folder / f"{name}.json") for folder in (RESULTS, KEPT)]
        if name not in chosen and not any(
            record is not None and record["state"] == "done" for record in records
        ):
            return name
    raise SystemExit("all steps are done.")


def start(
    steps: Sequence[str], options: argparse.Namespace, seconds: float
) -> subprocess.Popen[bytes]:
    """Start a process that runs these steps one after the other."""
    words = [sys.executable, __file__, *steps, "--inside", "--seconds", str(seconds)]
    words += [
        "--out",
        str(options.out),
        "--device",
        options.device,
        *(["--tiny"] if options.tiny else []),
    ]
    return subprocess.Popen(words, cwd=ROOT)


def wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> bool:
    """Wait for the processes, and end those that exceed the time limit.

    Returns:
        Whether all processes ended without an error.
    """
    until = time.monotonic() + seconds
    for signalled in (None, signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if signalled is not None and process.poll() is None:
                process.send_signal(signalled)
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(0.2)
        until = time.monotonic() + _GRACE
    return not any(process.returncode for process in processes)


def inside(options: argparse.Namespace) -> None:
    """Run the steps in a child process, which can import cDAL and the wheels.

    The output of each step goes into its log.
    """
    for step in options.steps:
        with (options.out / f"{step}.log").open("wb") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        import torch
        from record import Record

        if options.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit(
                "PyTorch finds no CUDA device here. Use --device cpu --tiny to rehearse."
            )
        record = Record(step, options.out, options.device, options.tiny)
        importlib.import_module(STEPS[step].module).run(
            record, step, options.device, options.tiny, options.seconds
        )
        record.done()
        sys.stdout.flush()


def show(step: str, out: Path) -> None:
    """Print the end of a step's log, and the state of its record."""
    log = out / f"{step}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    record = read_record(out / f"{step}.json")
    print(
        *lines[-40:],
        f"== {step}: {record['state'] if record else 'it did not begin'}",
        sep="\n",
        flush=True,
    )


def main() -> int:
    """Parse the options, install the wheels and run the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="+", choices=[*STEPS, "next", "all"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--seconds", type=float, help="time limit of each step (default: the plan's)"
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument(
        "--tiny", action="store_true", help="run a rehearsal with tiny networks and data"
    )
    parser.add_argument(
        "--together", action="store_true", help="run all steps at the same time, on one GPU"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.resolve()
    if options.inside:
        inside(options)
        return 0
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{options.out} cannot be written: {error}") from error
    steps: list[str] = []
    for step in list(STEPS) if options.steps == ["all"] else options.steps:
        steps.append(next_step(steps) if step == "next" else step)
    paths = [str(ROOT / "src"), str(install()), str(Path(__file__).parent)]
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONUNBUFFERED="1")
    succeeded = True
    # A rehearsal uses a single process, because nine would import everything nine times.
    for group in [steps] if options.together or options.tiny else [[step] for step in steps]:
        seconds = options.seconds or max(STEPS[step].seconds for step in group)
        batches = [group] if options.tiny else [[step] for step in group]
        limit = seconds * len(group) if options.tiny else seconds
        succeeded &= wait([start(batch, options, seconds) for batch in batches], limit)
        for step in group:
            show(step, options.out)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
