"""Samples a second of N ranks of one thread against one process of N threads, as a Markdown table.

    python benchmarks/ranks.py --data DATA [--recipe phantoms] [--ranks 2] [--steps 20] [--rounds 3]

Each training starts anew, without validation cases and calibration, and the variants take turns.
Samples a second are those of `cost.json`. Processor seconds are of all processes of a training,
start and reading included; those of a training of two steps are subtracted.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from cdal.runtime.cost import kept_cost

SHORT = 2


def train(options: argparse.Namespace, threads: int, ranks: int, steps: int) -> tuple[float, float]:
    """Samples a second, and processor seconds of a training."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        words = [options.recipe, "--data", options.data, "--out", folder, "--steps", str(steps)]
        words += ["--device", "cpu", "--devices", str(ranks), "--data.validation", "false"]
        subprocess.run(
            [sys.executable, "-m", "cdal", "train", *words, "--training.batch", str(options.batch)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=True,
            capture_output=True,
        )
        rate = float(kept_cost(Path(folder))["samples_a_second"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return rate, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time the variants in turn, and print medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="phantoms")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count = options.ranks
    variants = {
        "one process, one thread": (1, 1),
        f"one process, {count} threads": (count, 1),
        f"{count} ranks of one thread": (1, count),
    }
    start = {name: train(options, *variant, SHORT)[1] for name, variant in variants.items()}
    rounds = [
        {name: train(options, *variant, options.steps) for name, variant in variants.items()}
        for _ in range(options.rounds)
    ]
    samples = (options.steps - SHORT) * options.batch
    print("| variant | samples a second | lowest, highest | processor seconds a sample |")
    print("|---|---|---|---|")
    for name in variants:
        rates = sorted(one[name][0] for one in rounds)
        seconds = median(one[name][1] - start[name] for one in rounds) / samples
        print(
            f"| {name} | {median(rates):.2f} | {rates[0]:.2f}, {rates[-1]:.2f} | {seconds:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
