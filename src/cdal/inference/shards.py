"""The part of the inputs that one of several commands takes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cdal.inference.inputs import Input, Refused
from cdal.runtime.errors import UserError

SLURM = "slurm"
_ARRAY = "SLURM_ARRAY_TASK"


@dataclass(frozen=True)
class Shard:
    """One of several equal parts.

    Attributes:
        number: which one, from 1.
        count: how many there are.
    """

    number: int
    count: int

    def has(self, name: str) -> bool:
        """Whether results of this name are in this part; more inputs move none to another."""
        return number_of(name) % self.count == self.number - 1


class Shares:
    """Passes on the inputs of a shard, and counts all.

    Attributes:
        seen: inputs so far.
        taken: those of the shard.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.seen = self.taken = 0

    def __call__(self, sources: Iterable[Input | Refused]) -> Iterator[Input | Refused]:
        """The inputs that are in the shard."""
        for source in sources:
            self.seen += 1
            if self.shard.has(source.name):
                self.taken += 1
                yield source


def number_of(name: str) -> int:
    """A number of 64 bits that depends on a name alone, in any process and version."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")


def read_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Read `I/N`, or `slurm` for the task of an array of Slurm.

    Raises:
        UserError: it is something else, the number is not one from 1 to N, or the process is no
            task of an array whose numbers are evenly spaced.
    """
    if text == SLURM:
        number, count = _of_array(environment)
    else:
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None:
            raise UserError(
                f"a shard is I/N, such as 2/8 for the second of eight, or {SLURM}; it is {text!r}."
            )
        number, count = int(match[1]), int(match[2])
    if count < 1:
        raise UserError(f"there are no {count} shards: expected I/N with an N of 1 or more.")
    if not 1 <= number <= count:
        raise UserError(
            f"there is no shard {number} of {count}: shards are counted from 1 to {count}."
        )
    return Shard(number, count)


def _of_array(environment: Mapping[str, str]) -> tuple[int, int]:
    names = [f"{_ARRAY}_{what}" for what in ("ID", "MIN", "COUNT")]
    values = [environment.get(name, "") for name in names]
    if missing := [name for name, value in zip(names, values, strict=True) if not value.isdigit()]:
        raise UserError(
            f"--shard {SLURM} is for tasks of a job array (sbatch --array=1-8); {missing[0]} is "
            "not set. Elsewhere give --shard I/N."
        )
    task, first, count = map(int, values)
    step = environment.get(f"{_ARRAY}_STEP", "1")
    number, rest = divmod(task - first, max(1, int(step) if step.isdigit() else 1))
    if rest or not 0 <= number < count:
        raise UserError(
            f"task {task} is none of {count} evenly spaced ones from {first} on. Give the array as "
            "--array=1-N, or give --shard I/N."
        )
    return number + 1, count
