"""Damaged and hostile files, made from small valid ones, each read in a process of its own.

    python -m helpers.mutants COUNT SEED [READER ...]

prints as JSON what went wrong, by reader: a process that ended or hung, an exception other than
`UserError`, or anything that a library printed. What went wrong is kept in the temporary folder.

    python -m helpers.mutants --minutes MINUTES [SEED]

tries as many as there is time for, and ends with 1 if anything went wrong.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.file_seeds import file_seeds
from helpers.seeds import Seed, annotation_seeds, image_seeds

_GIB, _SECONDS = 3, 10
_ROUND = 100
_EXTREME = [0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
_WORDS = re.split(
    " ",
    "0 1 -1 -2147483648 2147483647 4294967296 99999999999999999999 1e9 1e39 1e400 nan inf -inf 0.5 "
    "2097152.5 %s%s%s%n %03d.raw /dev/zero /etc/passwd ../../x LIST LOCAL none null true [] {} () "
    "0x10 \u00e9 65536 300 3.0 # =",
)


def mutant(content: bytes, rng: random.Random, text: bool) -> bytes:
    """A file with one to three faults."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(mutant(gzip.decompress(content), rng, text), 1)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        content = rng.choice(_TEXT if text and rng.random() < 0.7 else _BYTES)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    """A place in the file, more often in its header."""
    most = len(content) if rng.random() < 0.4 else min(len(content), rng.choice([64, 600]))
    return rng.randrange(max(1, most))


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 2, 8])):
        if changed:
            changed[_place(content, rng) % len(changed)] = rng.randrange(256)
    return bytes(changed)


def _number(content: bytes, rng: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes replaced by one at the limits of its type."""
    value, order = rng.choice(_EXTREME), rng.choice("<>")
    packed = rng.choice(
        [
            struct.pack(order + "H", value & 0xFFFF),
            struct.pack(order + "I", value),
            struct.pack(order + "Q", value << rng.choice([0, 16, 31])),
            struct.pack(order + "f", rng.choice([0.0, -1.0, 1e-30, 1e30, float("nan")])),
        ]
    )
    start = _place(content, rng)
    return content[:start] + packed + content[start + len(packed) :]


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _without(content: bytes, rng: random.Random) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + rng.choice([1, 2, 4, 16, 100]) :]


def _longer(content: bytes, rng: random.Random) -> bytes:
    start, size = _place(content, rng), rng.choice([1, 4, 16, 1000])
    more = (
        content[start : start + size] if rng.random() < 0.5 else bytes([rng.randrange(256)]) * size
    )
    return content[:start] + more + content[start:]


def _word(content: bytes, rng: random.Random) -> bytes:
    """A number or a word of a text replaced."""
    found = list(re.finditer(rb"-?\d[\d.e+-]*|[A-Za-z_]+", content[:20000]))
    if not found:
        return _flipped(content, rng)
    match, word = rng.choice(found), rng.choice(_WORDS)
    if rng.random() < 0.1:
        word = rng.choice(["x", "9", "[", "(1,0,0) "]) * rng.choice([100, 1100, 20000])
    return content[: match.start()] + word.encode() + content[match.end() :]


def _lines(content: bytes, rng: random.Random) -> bytes:
    """Lines of a text, or values of JSON or XML, repeated, left out or exchanged."""
    separator = rng.choice([b"\n", b",", b"<", b"{"])
    parts = content.split(separator)
    first, second = rng.randrange(len(parts)), rng.randrange(len(parts))
    how = rng.choice(["repeat", "leave", "exchange"])
    if how == "repeat":
        parts[second:second] = [parts[first]] * rng.choice([1, 1, 50])
    elif how == "leave":
        del parts[first]
    else:
        parts[first], parts[second] = parts[second], parts[first]
    return separator.join(parts)


_BYTES = [_flipped, _number, _number, _truncated, _without, _longer]
_TEXT = [_word, _word, _lines]


def outcome(read: Callable[[Path], None], path: Path, printed: Path) -> str:
    """Read a file in a child of this process; returns what went wrong, or an empty string."""
    child = os.fork()
    if child == 0:
        _read_in_child(read, path, printed)
    _, status = os.waitpid(child, 0)
    text = printed.read_text(errors="replace").strip()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"more than {_SECONDS} s" if number == signal.SIGALRM else f"signal {number}: {text}"
    return f"exit code {os.WEXITSTATUS(status)}: {text}" if status or text else ""


def _read_in_child(read: Callable[[Path], None], path: Path, printed: Path) -> None:
    code = 1
    try:
        nowhere = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(nowhere, 1), os.dup2(nowhere, 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _GIB * 2**30,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        warnings.simplefilter("default")
        read(path)
        code = 0
    except BaseException:
        traceback.print_exc(limit=-6)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def faults_of(seeds: list[Seed], count: int, seed: int) -> Iterator[str]:
    """Read some files, and mutants of them in turn; yield what went wrong."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, printed = Path(name) / "files", Path(name) / "printed"
        for valid in seeds:
            path = _written(folder, valid, valid.content)
            valid.read(path)  # so that children find the libraries in memory
            if fault := outcome(valid.need, path, printed):
                yield f"{valid.name} as it is: {fault}"
        for number in range(count):
            chosen = seeds[number % len(seeds)]
            content = mutant(chosen.content, rng, chosen.text)
            path = _written(folder, chosen, content)
            if fault := outcome(chosen.read, path, printed):
                kept = Path(tempfile.gettempdir()) / f"mutant-{seed}-{number}-{chosen.name}"
                kept.write_bytes(content)
                yield f"{kept}: {fault}"


def _written(folder: Path, seed: Seed, content: bytes) -> Path:
    """Write a file, and those beside it, into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for beside, other in seed.beside.items():
        (folder / beside).parent.mkdir(parents=True, exist_ok=True)
        (folder / beside).write_bytes(other)
    path = folder / seed.name
    path.write_bytes(content)
    return path


def all_seeds() -> dict[str, list[Seed]]:
    """Seeds by the name of the reader: image formats, annotations, and files of our own."""
    return image_seeds() | annotation_seeds() | file_seeds()


def main(count: int, seed: int, names: list[str]) -> None:
    """Print the faults of the readers as JSON."""
    found = {
        name: list(faults_of(seeds, count, seed))
        for name, seeds in all_seeds().items()
        if not names or name in names
    }
    print(json.dumps(found))  # noqa: T201


def fuzz(minutes: float, seed: int) -> int:
    """Try mutants for a time, each reader for an equal share; print counts, and what went wrong.

    Returns the number of faults.
    """
    readers, faults = all_seeds(), 0
    for name, seeds in readers.items():
        began, tried = time.monotonic(), 0
        while seeds and time.monotonic() - began < 60 * minutes / len(readers):
            for fault in faults_of(seeds, _ROUND, seed + tried):
                faults += 1
                print(f"{name}: {fault}", flush=True)  # noqa: T201
            tried += _ROUND
        print(f"{name}: {tried} mutants from seed {seed}", flush=True)  # noqa: T201
    return faults


if __name__ == "__main__":
    if sys.argv[1] == "--minutes":
        chosen = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(10**6)
        sys.exit(min(1, fuzz(float(sys.argv[2]), chosen)))
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
