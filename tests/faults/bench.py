"""The bench: one command after the other, one fault after the other, one moment after the other."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from faults.children import Child, Home, start, warm
from faults.commands import COMMANDS, Command, make_things
from faults.moments import FAULTS, MOUNTED, Moment, Plain, at_changes
from faults.reading import MINE, look, temporaries

_GOOD = (0, 2, 3)
_GRACE = 90.0
"""Seconds that processes of a killed command have to end."""

_TEXT = "what another has written\n"


@dataclass
class Tried:
    """What became of a fault of a command.

    Attributes:
        command: its name.
        fault: name of the fault.
        moments: how many were tried.
        losses: what was lost, in words.
        seconds: how long it took.
        skipped: why it was not tried.
    """

    command: str
    fault: str
    moments: int = 0
    losses: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""


class Bench:
    """Tries faults in a folder.

    Args:
        folder: an empty folder.
        seed: seed of all random moments.
        moments: most moments of a fault of a command.
    """

    def __init__(self, folder: Path, seed: int, moments: int) -> None:
        self.folder, self.seed, self.moments = folder, seed, moments
        self.home = Home(folder / "home")
        (folder / "things").mkdir()
        self.things = make_things(folder / "things")
        self.mounts = _may_mount(self._fresh())

    def run(self, commands: Sequence[str], faults: Sequence[str]) -> Iterator[Tried]:
        """Try faults of commands, and yield what became of each."""
        self._need_success(COMMANDS["predict"], self.things["results"])
        for name in commands:
            command = COMMANDS[name]
            if command.needs and find_spec(command.needs) is None:
                yield Tried(name, "all", skipped=f"{command.needs} is not installed")
                continue
            plain = self._plain(command)
            for fault in faults:
                if command.faults and fault not in command.faults:
                    continue
                if (tried := self._try_fault(name, command, fault, plain)) is not None:
                    yield tried

    def _try_fault(self, name: str, command: Command, fault: str, plain: Plain) -> Tried | None:
        tried, began = Tried(name, fault), time.monotonic()
        if fault in MOUNTED and not self.mounts:
            tried.skipped = "no file system may be mounted here"
            return tried
        rng = random.Random(f"{self.seed} {name} {fault}")
        for _ in range(max(1, self.moments // command.share)):
            home = self._fresh()
            moment = FAULTS[fault](plain, rng, home)
            if moment is None:
                return None
            losses = self._losses(command, moment, plain, home)
            tried.moments += 1
            if losses:
                kept = self.folder / f"lost-{len(list(self.folder.glob('lost-*')))}"
                home.unmount()
                shutil.move(home.path, kept)
                tried.losses.append(f"{moment.about}: {'; '.join(losses)} ({kept})")
        tried.seconds = time.monotonic() - began
        return tried

    def _losses(self, command: Command, moment: Moment, plain: Plain, home: Home) -> list[str]:
        """What a moment has lost, in words."""
        losses = []
        with moment.around(home):
            children = self._start(command, moment, home)
            moment.meanwhile(children)
            for child in children:
                child.wait()
                losses += _ended_badly(child, moment)
            losses += [f"after the fault {broken}" for broken in look(home.out)[1]]
        again = [start(self._line(line, home.out), home) for line in command.lines]
        for child in again:
            child.wait()
            refused = not command.again and "nothing was changed" in child.text
            if child.code != 0 and not refused:
                losses.append(f"the next call ended with {child.code}: {child.text[-1500:]}")
        losses += _left_behind(home, plain.kept)
        said, broken = look(home.out)
        losses += broken
        differing = sorted(n for n in {*said, *plain.said} if said.get(n) != plain.said.get(n))
        losses += [f"differing: {', '.join(differing)}"] if differing else []
        if (home.path / "other" / MINE).read_text() != _TEXT:
            losses.append("a file of another was changed")
        return losses

    def _start(self, command: Command, moment: Moment, home: Home) -> list[Child]:
        children: list[Child] = []
        for _ in range(moment.copies):
            if children:
                children[0].wait(moment.apart)
            children += [
                start(self._line(line, home.out), home, moment.before) for line in command.lines
            ]
        return children

    def _plain(self, command: Command) -> Plain:
        """Give a command undisturbed, twice: first for what it imports, then for what it does."""
        home, note = self._fresh(), self.folder / "note.json"

        def imported() -> None:
            note.write_text(json.dumps([n for n in sys.modules if not n.startswith("ray")]))

        for line in command.lines:
            child = start(self._line(line, home.out), home, after=imported)
            child.wait()
            if child.code:
                sys.exit(f"{line}: {child.code}: {child.text}")
            warm(json.loads(note.read_text()))
        home, numbers = self._fresh(), {"changes": 0, "memory": 0}

        def before() -> None:
            numbers["memory"] = -_address_space()
            at_changes(home, lambda number, what: numbers.update(changes=number + 1))

        def after() -> None:
            numbers["memory"] += _address_space("VmPeak")
            note.write_text(json.dumps(numbers))

        children = [
            start(self._line(line, home.out), home, before, after) for line in command.lines
        ]
        for child in children:
            child.wait()
        seconds = time.monotonic() - children[0].began
        said, broken = look(home.out)
        assert not broken and said, (broken, children[0].text)
        sizes = [path.stat().st_size for path in home.out.rglob("*") if path.is_file()]
        known = json.loads(note.read_text())
        kept = {path.name for path in home.tmp.iterdir() if not path.name.startswith(".cdal-")}
        return Plain(
            seconds,
            known["changes"],
            max(sizes),
            sum(sizes),
            known["memory"],
            said,
            kept,
            command.worker,
        )

    def _need_success(self, command: Command, out: Path) -> None:
        child = start(self._line(command.lines[0], out), self._fresh())
        child.wait()
        if child.code:
            sys.exit(child.text)

    def _line(self, line: str, out: Path) -> str:
        return line.format(**self.things, out=out)

    def _fresh(self) -> Home:
        """An empty home, always in the same place."""
        self.home.unmount()
        shutil.rmtree(self.home.path, ignore_errors=True)
        home = self.home.make()
        (home.path / "other").mkdir()
        (home.path / "other" / MINE).write_text(_TEXT)
        return home


def _ended_badly(child: Child, moment: Moment) -> list[str]:
    """Why the end of a disturbed command is none that a user may meet."""
    assert child.code is not None
    if child.code < 0 and moment.killed:
        return []
    losses = []
    if child.code not in _GOOD:
        losses.append(f"it ended with {child.code}")
    if "Traceback" in child.text:
        losses.append("a traceback")
    if child.code == 2 and "cdal " not in child.text:
        losses.append("no message")
    return [f"{', '.join(losses)}: {child.text[-3000:]}"] if losses else []


def _left_behind(home: Home, kept: set[str]) -> list[str]:
    """Processes and temporary files that are left."""
    last = time.monotonic() + _GRACE
    while (left := home.processes()) and time.monotonic() < last:
        time.sleep(0.02)
    losses = [f"processes are left: {left}"] if left else []
    for pid in left:
        os.kill(pid, 9)
    files = temporaries(home.disk) + [
        str(path) for path in home.tmp.iterdir() if path.name not in kept
    ]
    return [*losses, *([f"left: {', '.join(files[:5])}"] if files else [])]


def _address_space(what: str = "VmSize") -> int:
    """Bytes of address space of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def _may_mount(home: Home) -> bool:
    with ExitStack() as stack:
        stack.callback(home.unmount)
        try:
            home.mount(2**20)
        except OSError:
            return False
    return True
