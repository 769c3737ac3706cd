"""What leaving out the glass of a slide saves, as a Markdown table.

    python benchmarks/slide.py --data DATA --side 20000 [--before SRC]

DATA is the prepared MoNuSeg folder. The slide is one piece of tissue, a third of its area, made of
the test images side by side; the rest is white glass with the noise of a camera. It is stored as a
scanner stores it: tiles of JPEG. `cdal predict` segments it with and without its glass, and with
the package in the folder SRC, if one is given, such as that of an earlier version. All runs are
processes of their own, one after the other; their seconds hold the start of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow

TILE, QUALITY = 256, 90
GLASS, NOISE = (243, 242, 244), 1.5


@dataclass(frozen=True)
class Ran:
    """What a run took and found.

    Attributes:
        processor: seconds of processor time.
        wall: seconds by the clock.
        memory: peak memory in GiB.
        skipped: share of the area that was left out.
        mask: path of the mask.
    """

    processor: float
    wall: float
    memory: float
    skipped: float
    mask: Path


def tissue(side: int, top: int, bottom: int) -> np.ndarray:
    """Where some rows of a slide are tissue, `[bottom - top, side]`: a third, in one piece."""
    y, x = np.ogrid[top:bottom, :side]
    y, x = y - 0.45 * side, x - 0.45 * side
    angle = np.arctan2(y, x)
    wavy = 1 + 0.12 * np.sin(3 * angle) + 0.06 * np.sin(7 * angle + 1)
    return np.asarray(np.hypot(y, x) < side * wavy * 0.3215)


def make_slide(path: Path, side: int, images: Path) -> None:
    """Write the slide."""
    found = [np.asarray(Pillow.open(p).convert("RGB")) for p in sorted(images.glob("*.png"))[:6]]
    texture = np.concatenate([np.concatenate(found[i::2], axis=1) for i in (0, 1)])
    rng = np.random.default_rng(0)

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, side, TILE):
            inside = tissue(side, top, top + TILE)
            rows = texture[np.arange(top, top + TILE) % len(texture)]
            for left in range(0, side, TILE):
                glass = rng.normal(GLASS, NOISE, (TILE, TILE, 3)).round().clip(0, 255)
                seen = rows[:, np.arange(left, left + TILE) % texture.shape[1]]
                here = np.zeros((TILE, TILE, 1), bool)
                here[:, : min(TILE, side - left), 0] = inside[:, left : left + TILE]
                yield np.where(here, seen, glass).astype(np.uint8)

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            tiles(),
            shape=(side, side, 3),
            dtype=np.uint8,
            tile=(TILE, TILE),
            compression="jpeg",
            compressionargs={"level": QUALITY},
            photometric="rgb",
        )


def run(model: str, slide: Path, out: Path, options: list[str], package: Path | None) -> Ran:
    """Segment the slide in a process of its own."""
    environment = dict(os.environ)
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    command = [sys.executable, "-m", "cdal", "predict", model, str(slide), "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, *options], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join([*command, *options])} failed")
    row = json.loads((out / "predictions.json").read_text())["predictions"][0]
    return Ran(
        used.ru_utime + used.ru_stime,
        time.perf_counter() - began,
        used.ru_maxrss / 2**20,
        row.get("skipped", 0.0),
        out / row["mask"],
    )


def differences(first: Path, second: Path, side: int) -> tuple[int, int, float, float]:
    """Pixels of tissue whose classes differ, pixels of tissue, and each mask's share of glass."""
    masks = [tifffile.imread(path) for path in (first, second)]
    apart = pixels = 0
    on_glass = [0, 0]
    for top in range(0, side, TILE):
        inside = tissue(side, top, min(side, top + TILE))
        one, other = (mask[top : top + TILE] for mask in masks)
        apart += int((one != other)[inside].sum())
        pixels += int(inside.sum())
        for i, mask in enumerate((one, other)):
            on_glass[i] += int((mask > 0)[~inside].sum())
    rest = side * side - pixels
    return apart, pixels, on_glass[0] / rest, on_glass[1] / rest


def main() -> None:
    """Make the slide, segment it in each way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--side", type=int, default=5000)
    parser.add_argument("--model", default="monuseg")
    parser.add_argument("--votes", type=int, default=1)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    votes = ["--votes", str(options.votes)]
    ways: dict[str, tuple[list[str], Path | None]] = {
        "glass left out": (votes, None),
        "everything (`--no-skip`)": ([*votes, "--no-skip"], None),
    }
    if options.before is not None:
        ways["before"] = (votes, options.before)
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.tif"
        make_slide(slide, options.side, options.data / "test" / "images")
        ran = {
            name: run(options.model, slide, Path(folder) / f"out{i}", words, package)
            for i, (name, (words, package)) in enumerate(ways.items())
        }
        quick = ran["glass left out"]
        print("\n| way | processor s | of it | wall s | of it | GiB | left out | in glass |")
        print("|---|---|---|---|---|---|---|---|")
        for name, other in ran.items():
            apart, pixels, _, on_glass = differences(quick.mask, other.mask, options.side)
            print(
                f"| {name} | {other.processor:.0f} | {other.processor / quick.processor:.2f} | "
                f"{other.wall:.0f} | {other.wall / quick.wall:.2f} | {other.memory:.2f} | "
                f"{other.skipped:.1%} | {on_glass:.2%} |"
            )
            print(f"{name}: {apart} of {pixels} pixels of tissue differ", file=sys.stderr)


if __name__ == "__main__":
    main()
