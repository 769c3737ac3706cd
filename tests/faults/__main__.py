"""The command line of the bench; see `faults`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import faults
from faults.bench import Bench, Tried
from faults.commands import COMMANDS
from faults.moments import FAULTS


def main() -> int:
    """Try the faults, print the table, and return the exit code."""
    options = options_of(sys.argv[1:])
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    began, moments, losses = time.monotonic(), 0, 0
    say(f"seed {seed}, up to {options.moments} moments of each fault\n")
    say("| command | fault | moments | losses | seconds |", "|---|---|---|---|---|")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    bench = Bench(folder, seed, options.moments)
    try:
        for tried in bench.run(options.command, options.fault):
            moments += tried.moments
            losses += len(tried.losses)
            say(row(tried), *(f"  lost: {loss}" for loss in tried.losses))
    finally:
        bench.home.unmount()
    if not losses:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"| all | | {moments} | {losses} | {time.monotonic() - began:.0f} |")
    return min(1, losses)


def options_of(words: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description=faults.__doc__,
        epilog=f"{_list('commands', COMMANDS)}\n\n{_list('faults', FAULTS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="decides all moments (default: a random one)")
    parser.add_argument(
        "--moments", type=int, default=20, help="most moments of a fault of a command (default: 20)"
    )
    for option, known in (("--command", COMMANDS), ("--fault", FAULTS)):
        parser.add_argument(
            option,
            nargs="+",
            choices=known,
            default=list(known),
            metavar="NAME",
            help="of the names below, in quotation marks (default: all)",
        )
    return parser.parse_args(words)


def _list(heading: str, names: Iterable[str]) -> str:
    return "\n  ".join([f"{heading}:", *names])


def row(tried: Tried) -> str:
    """A row of the table."""
    if tried.skipped:
        return f"| {tried.command} | {tried.fault} | skipped: {tried.skipped} | | |"
    return (
        f"| {tried.command} | {tried.fault} | {tried.moments} | {len(tried.losses)} | "
        f"{tried.seconds:.1f} |"
    )


def say(*lines: str) -> None:
    """Print lines at once."""
    print(*lines, sep="\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
