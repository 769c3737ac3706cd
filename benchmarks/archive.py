"""What `cdal predict` does over an archive: speed of workers, what kills leave, and its memory.

    python benchmarks/archive.py MODEL IMAGE... [--images 500] [--engines process ray] [--workers 2]
        [--kills 20] [--driver-kills 5] [--tiny 100 10000] [--votes N] [--seed 0]

The images are repeated under new names until there are `--images` of them. Each call has one thread
a worker. Speed is counted from the first result that is there to the last one, without the start;
the seconds of the whole call stand beside it. Every mask is compared, byte for byte, with that of
the plain command.

`--kills` ends so many random workers by SIGKILL over a run of all images, and `--driver-kills` so
many times the command itself, which is then given again. After all: each input has one row or a
failure that is told, each row has its files, and each file has its row. Inputs with which two
workers died are tried again by a last call with `--retry-failed`.

`--tiny` measures the memory of the command and of its workers with so many pictures of 32 x 32
pixels, at the end of the work. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cdal.inference.entries import recorded_names


class Run:
    """A call of `cdal predict` in processes of its own.

    Args:
        words: words after `cdal predict`.
        out: folder of the results.
    """

    def __init__(self, words: Sequence[str], out: Path) -> None:
        self.out, self._began = out, time.monotonic()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (the process writes to it)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cdal", "predict", *words, "--out", str(out)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def watch(self, look: Callable[[float], object], every: float = 0.1) -> float:
        """Call `look` with the seconds since the start until the call ends; returns its seconds."""
        while self.process.poll() is None:
            look(time.monotonic() - self._began)
            time.sleep(every)
        return time.monotonic() - self._began

    def done(self) -> int:
        """Number of masks that are there."""
        return sum(name.is_file() for name in self.out.glob("*_mask.*"))

    def need_success(self, codes: Sequence[int] = (0,)) -> None:
        """End with what the call wrote if it failed."""
        if self.process.returncode not in codes:
            self._log.seek(0)
            sys.exit(f"exit code {self.process.returncode}:\n{self._log.read()}")

    def workers(self) -> list[int]:
        """Process ids of the workers, those of Ray included."""
        return [pid for pid, words in descendants(self.process.pid) if is_worker(words)]


def descendants(parent: int) -> Iterator[tuple[int, str]]:
    """Process ids and commands of all processes below one."""
    below: dict[int, list[int]] = {}
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        below.setdefault(int(state[1]), []).append(int(folder.name))
    waiting = [parent]
    while waiting:
        for pid in below.get(waiting.pop(), []):
            waiting.append(pid)
            yield pid, commands[pid]


def is_worker(words: str) -> bool:
    """Whether a command is that of a worker process: one of ours, or an actor of Ray."""
    return "multiprocessing.spawn" in words or words.startswith("ray::_Actor")


def masks(out: Path) -> dict[str, bytes]:
    """The masks of a folder by name."""
    return {path.name: path.read_bytes() for path in out.glob("*_mask.*")}


def speed(words: Sequence[str], out: Path, count: int) -> tuple[float, float]:
    """Images per second between the first and the last result, and the seconds of the call."""
    run, seen = Run(words, out), list[tuple[float, int]]()
    seconds = run.watch(lambda now: seen.append((now, run.done())), every=0.25)
    run.need_success()
    first = next(entry for entry in seen if entry[1])
    last = next((entry for entry in seen if entry[1] == count), (seconds, count))
    return (last[1] - first[1]) / (last[0] - first[0]), seconds


class Torture:
    """Kills workers and commands, each after a random number of further results.

    Args:
        kills: workers to kill.
        drivers: commands to kill.
        apart: most results between two kills.
        seed: random seed.
    """

    def __init__(self, kills: int, drivers: int, apart: int, seed: int) -> None:
        self.kills, self.drivers, self.apart = kills, drivers, apart
        self.rng = random.Random(seed)
        self.killed = self.ended = 0

    def __call__(self, words: Sequence[str], out: Path) -> str:
        """Give the command until it ends by itself; returns what was killed, in words."""
        while True:
            run = Run(words, out)
            seconds = self._watch(run)
            if run.process.returncode != -signal.SIGKILL:
                run.need_success((0, 3))
                return (
                    f"{self.killed} workers and {self.ended} commands killed, last call "
                    f"{seconds:.0f} s"
                )

    def _watch(self, run: Run) -> float:
        start = due = run.done() + self.rng.randint(1, self.apart)
        end = start + self.rng.randint(1, self.apart) if self.ended < self.drivers else None

        def look(_: float) -> None:
            nonlocal due
            done = run.done()
            if end is not None and done >= end and run.process.poll() is None:
                run.process.kill()
                run.process.wait()
                self.ended += 1
            elif self.killed < self.kills and done >= due and (workers := run.workers()):
                os.kill(self.rng.choice(workers), signal.SIGKILL)
                self.killed += 1
                due = done + self.rng.randint(1, self.apart)

        return run.watch(look)


def check(out: Path, names: set[str]) -> int:
    """End if a row has no file, a file no row, or an input neither a row nor a failure.

    Returns:
        Number of failures.
    """
    merged = json.loads((out / "predictions.json").read_text())
    rows = [row["mask"] for row in merged["predictions"]]
    failed = {Path(path).stem for path in merged["failed"]}
    assert len(rows) == len(set(rows)), "a row is there twice"
    assert set(rows) == set(masks(out)), "rows and files differ"
    done = {name.rpartition("_")[0] for name in rows}
    assert done | failed == names, "an input is lost"
    assert set(recorded_names(out)) == names, "records and inputs differ"
    return len(failed - done)


def memory(words: Sequence[str], out: Path) -> tuple[float, float]:
    """GiB that the command and the largest of its workers held at most."""
    run, most = Run(words, out), [0.0, 0.0]

    def look(_: float) -> None:
        for place, pids in enumerate(([run.process.pid], run.workers())):
            most[place] = max([most[place], *map(resident, pids)])

    run.watch(look)
    run.need_success()
    return most[0], most[1]


def resident(pid: int) -> float:
    """GiB that a process holds; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def repeated(images: Sequence[Path], folder: Path, count: int) -> set[str]:
    """Links to images under so many names; returns the names."""
    folder.mkdir()
    for number in range(count):
        image = images[number % len(images)]
        (folder / f"image_{number:06d}{image.suffix}").symlink_to(image.resolve())
    return {f"image_{number:06d}" for number in range(count)}


def tiny(folder: Path, count: int, seed: int) -> Path:
    """A folder of pictures of 32 x 32 pixels."""
    folder.mkdir()
    pixels = np.random.default_rng(seed).integers(0, 255, size=(32, 32)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "tiny_000000.png")
    content = (folder / "tiny_000000.png").read_bytes()
    for number in range(1, count):
        (folder / f"tiny_{number:06d}.png").write_bytes(content)
    return folder


def measure(options: argparse.Namespace, home: Path) -> Iterator[tuple[str, str]]:
    """What is measured, and what came out, one after the other."""
    names = repeated(options.inputs, home / "in", options.images)
    words = [options.model, str(home / "in"), "--device", "cpu", "--seed", str(options.seed)]
    words += ["--votes", str(options.votes)] if options.votes else []
    rate, seconds = speed(words, home / "plain", options.images)
    plain = masks(home / "plain")
    yield "plain command", f"{rate:.2f} images/s, {seconds:.0f} s"
    for engine in options.engines:
        rates = []
        for workers in sorted({1, options.workers}):
            out = home / f"{engine}-{workers}"
            more = ["--engine", engine, "--workers", str(workers)]
            rate, seconds = speed([*words, *more], out, options.images)
            same = "the same" if masks(out) == plain else "OTHER"
            rates.append(rate)
            what = f"{rate:.2f} images/s, {seconds:.0f} s, {same} masks"
            yield f"{engine}, {workers} workers", what
        yield f"{engine}, {options.workers} workers against 1", f"{rates[-1] / rates[0]:.2f} times"
        if options.kills or options.driver_kills:
            out, all_kills = home / f"{engine}-killed", options.kills + 2 * options.driver_kills
            apart = max(1, options.images // all_kills)
            kill = Torture(options.kills, options.driver_kills, apart, options.seed)
            told = kill([*words, *more], out)
            failed = check(out, names)
            Run([*words, "--retry-failed"], out).watch(lambda now: None)
            left, whole = check(out, names), masks(out) == plain
            same = "the same masks" if whole else "OTHER masks"
            yield (
                f"{engine}, seed {options.seed}",
                f"{told}; {failed} given up, {left} at last, {same}",
            )
    for engine in options.engines if options.tiny else ():
        for count in options.tiny:
            folder = tiny(home / f"tiny-{engine}-{count}", count, options.seed)
            more = ["--engine", engine, "--workers", str(options.workers)]
            held = memory(
                [options.model, str(folder), *more, "--votes", "1"], home / f"of-{folder.name}"
            )
            yield f"{engine}, {count} tiny", f"command {held[0]:.3f} GiB, worker {held[1]:.3f} GiB"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("inputs", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--engines", nargs="*", default=["process", "ray"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--driver-kills", type=int, default=5)
    parser.add_argument("--tiny", type=int, nargs="*", default=[100, 10_000])
    parser.add_argument("--votes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| what | result |", "|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as home:
        for what, result in measure(options, Path(home)):
            print(f"| {what} | {result} |", flush=True)


if __name__ == "__main__":
    main()
