"""The faults: how each disturbs a command, at a moment that random numbers decide."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from faults.children import Child, Home, nothing
from faults.reading import MINE

CHANGES = {
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 1),
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "open"), 0),
}
"""Audit events of Python that change files, and which argument is the path that is changed."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_TEN_YEARS = 10 * 365 * 24 * 3600.0
_MOST_FILES = 40


@dataclass(frozen=True)
class Plain:
    """What is known of a command that nothing disturbs.

    Attributes:
        seconds: how long it takes.
        changes: how many times it changes a file or a folder.
        largest: size of its largest file, in bytes.
        size: size of all its files.
        memory: bytes of address space that it takes.
        said: what its files say.
        kept: names in the folder for temporary files that libraries keep for the next time.
        worker: worker of the command, see `faults.commands.Command`.
    """

    seconds: float
    changes: int
    largest: int
    size: int
    memory: int
    said: dict[str, str]
    kept: set[str]
    worker: str


@dataclass(frozen=True)
class Moment:
    """A fault at a moment.

    Attributes:
        about: what happens, in words.
        around: what is around the disturbed commands.
        before: called in the process of each command before it begins.
        meanwhile: called with the processes that were started.
        killed: whether a command may end by SIGKILL or SIGXFSZ.
        copies: how many of each command are started.
        apart: seconds between their starts.
    """

    about: str
    around: Callable[[Home], AbstractContextManager[object]] = lambda home: nullcontext()
    before: Callable[[], object] = nothing
    meanwhile: Callable[[Sequence[Child]], object] = lambda children: None
    killed: bool = False
    copies: int = 1
    apart: float = 0.0


Fault = Callable[[Plain, random.Random, Home], Moment | None]
"""Makes a moment; `None` if the fault has no meaning for the command."""


def at_changes(home: Home, happen: Callable[[int, str], object]) -> None:
    """Have something called before each change of a file in a home by this process.

    Args:
        home: the home.
        happen: receives the number of the change, from 0, and what it is.
    """
    inside, number = f"{home.path}{os.sep}", -1

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal number
        if event not in CHANGES or (event == "open" and not int(str(arguments[2] or 0)) & _WRITING):
            return
        path = arguments[CHANGES[event]]
        if isinstance(path, (str, bytes, os.PathLike)):
            name = os.path.join(os.getcwd(), os.fsdecode(path))  # noqa: PTH118, PTH109 (no events)
            if name.startswith(inside):
                number += 1
                happen(number, f"{event} {name[len(inside) :]}")

    sys.addaudithook(hook)


def killed_at_any_time(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The command is killed, after a random part of the time that it takes."""
    seconds, which = plain.seconds * rng.random(), rng.random()

    def kill(children: Sequence[Child]) -> None:
        child = children[int(which * len(children))]
        child.wait(seconds)
        child.kill()

    return Moment(f"killed after {seconds:.3f} s", meanwhile=kill, killed=True)


def killed_worker(plain: Plain, rng: random.Random, home: Home) -> Moment | None:
    """A process that does the work of the command is killed."""
    seconds, which = plain.seconds * rng.uniform(0.2, 0.95), rng.random()

    def kill(children: Sequence[Child]) -> None:
        children[0].wait(seconds)
        while not children[0].ended():
            if workers := [p for p in children[0].descendants() if plain.worker in _words(p)]:
                with suppress(OSError):
                    os.kill(workers[int(which * len(workers))], signal.SIGKILL)
                return
            time.sleep(0.01)

    about = f"worker killed after {seconds:.3f} s"
    return Moment(about, meanwhile=kill) if plain.worker else None


def killed_at_change(plain: Plain, rng: random.Random, home: Home) -> Moment | None:
    """The command is killed just before it writes, moves or deletes a file or a folder."""
    if not plain.changes:
        return None
    return _killed_at(rng.randrange(plain.changes), home)


def _killed_at(last: int, home: Home) -> Moment:
    def before() -> None:
        def happen(number: int, what: str) -> None:
            if number == last:
                os.write(2, f"killed before {what}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

        at_changes(home, happen)

    return Moment(f"killed before change {last}", before=before, killed=True)


def killed_in_write(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The command is killed as soon as a file has grown to a random size."""
    size = rng.randrange(plain.largest + 1)

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return Moment(f"killed at byte {size} of a file", before=before, killed=True)


def clock_set_back(plain: Plain, rng: random.Random, home: Home) -> Moment | None:
    """The command is killed before a change, while the clock is ten years ahead."""
    if not plain.changes:
        return None
    killed, clock, ahead = killed_at_change(plain, rng, home), time.time, rng.random() * _TEN_YEARS
    assert killed is not None

    def before() -> None:
        time.time = lambda: clock() + ahead
        killed.before()

    @contextmanager
    def around(home: Home) -> Iterator[None]:
        yield
        for path in (home.out, *home.out.rglob("*"), *home.disk.glob(".cdal-*")):
            with suppress(OSError):
                os.utime(path, (clock() + ahead,) * 2, follow_symlinks=False)

    about = f"{killed.about}, the clock {ahead / 86400:.0f} days ahead"
    return Moment(about, around, before, killed=True)


def file_too_large(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """No file may grow beyond a random size."""
    return _limited("a file", resource.RLIMIT_FSIZE, rng.randrange(plain.largest + 1))


def disk_full(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The disk, a small file system, is full after random bytes."""
    size = 4096 * rng.randrange(2, max(3, plain.size // 4096 + plain.changes // 4))

    @contextmanager
    def around(home: Home) -> Iterator[None]:
        home.mount(size)
        yield
        home.mount(2**28)

    return Moment(f"a disk of {size} bytes", around)


def read_only(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The disk is read-only, before the command, or from a random time on."""
    seconds = rng.choice([0.0, plain.seconds * rng.random()])

    @contextmanager
    def around(home: Home) -> Iterator[None]:
        home.mount(2**28)
        if not seconds:
            home.protect()
        yield
        home.mount(2**28)

    def protect(children: Sequence[Child]) -> None:
        while seconds and not children[0].ended():
            children[0].wait(seconds)
            with suppress(subprocess.CalledProcessError):  # not while a file is being written
                home.protect()
                return
            time.sleep(0.001)

    return Moment(f"a disk that is read-only after {seconds:.3f} s", around, meanwhile=protect)


def few_open_files(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The command may open a random number of files at a time."""
    more = rng.randrange(_MOST_FILES)

    def before() -> None:
        used = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + more,) * 2)

    return Moment(f"{more} more open files", before=before)


def little_memory(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The command may take a random part of the memory that it needs."""
    more = rng.randrange(max(2, plain.memory))

    def before() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)

    return Moment(f"{more / 2**20:.1f} MiB more memory", before=before)


def linked(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """In the place of a file or a folder of the output is a link.

    It leads to a file or a folder of another, to nothing, or to itself.
    """
    names = sorted(
        {str(p) for n in plain.said for p in (Path(n), *Path(n).parents)}
        | {".", ".lock", ".cdal", ".cdal/tmp", ".cdal-left", ".cdal/locks", ".cdal-00000000-x.json"}
    )
    name, kind = rng.choice(names), rng.choice(["file", "folder", "nothing", "itself"])

    @contextmanager
    def around(home: Home) -> Iterator[None]:
        link = home.out / name
        link.parent.mkdir(parents=True, exist_ok=True)
        targets = {"file": f"other/{MINE}", "folder": "other", "nothing": "gone"}
        link.symlink_to(home.path / targets[kind] if kind in targets else link)
        yield
        used = len(list((home.path / "other").iterdir())) > 1
        if link.is_symlink() and not used:  # else the output is there, as the user wanted it
            link.unlink()
            with suppress(OSError):
                for folder in link.parents[: list(link.parents).index(home.disk)]:
                    folder.rmdir()

    return Moment(f"{name} is a link to {kind}", around)


def two_at_once(plain: Plain, rng: random.Random, home: Home) -> Moment:
    """The command is given twice, the second time at a random moment of the first."""
    apart = plain.seconds * rng.random()
    return Moment(f"again after {apart:.3f} s", copies=2, apart=apart)


def _limited(what: str, limit: int, most: int) -> Moment:
    def before() -> None:
        resource.setrlimit(limit, (most, most))

    return Moment(f"{what} of {most} bytes at most", before=before)


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


FAULTS: dict[str, Fault] = {
    "killed at any time": killed_at_any_time,
    "worker killed": killed_worker,
    "killed at a change": killed_at_change,
    "killed in a write": killed_in_write,
    "clock set back": clock_set_back,
    "files limited": file_too_large,
    "disk full": disk_full,
    "read-only": read_only,
    "few open files": few_open_files,
    "little memory": little_memory,
    "links": linked,
    "two at once": two_at_once,
}

MOUNTED = ("disk full", "read-only")
"""Faults that need a file system of their own."""
