"""Parts of the inputs: each input is in one, whatever else there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.inference.inputs import Input
from cdal.inference.shards import Shard, Shares, read_shard
from cdal.runtime.errors import UserError


def names(count: int) -> list[str]:
    return [f"case_{number}" for number in range(count)]


def test_every_input_is_in_one_shard_and_stays_there_when_more_come():
    parts = [Shard(number, 7) for number in range(1, 8)]
    where = {name: [part.has(name) for part in parts] for name in names(700)}
    assert all(sum(found) == 1 for found in where.values())
    sizes = [sum(found[i] for found in where.values()) for i in range(7)]
    assert min(sizes) > 70
    assert max(sizes) < 130


def test_the_parts_are_the_same_in_every_version():
    """Else the shards of an array that was begun by another would overlap."""
    assert [n for n in names(12) if Shard(2, 4).has(n)] == ["case_0", "case_4", "case_5", "case_10"]


def test_inputs_are_counted():
    shares = Shares(Shard(1, 2))
    taken = list(shares(Input(Path(name), name, ".png") for name in names(100)))
    assert (shares.seen, shares.taken) == (100, len(taken))
    assert 30 < len(taken) < 70


def test_the_task_of_an_array_is_a_shard():
    def slurm(task: int, first: int, count: int, **more: str) -> Shard:
        values = {"ID": str(task), "MIN": str(first), "COUNT": str(count), **more}
        return read_shard("slurm", {f"SLURM_ARRAY_TASK_{k}": v for k, v in values.items()})

    assert read_shard("2/8") == Shard(2, 8)
    assert slurm(0, 0, 8) == Shard(1, 8)
    assert slurm(8, 1, 8) == Shard(8, 8)
    assert slurm(30, 10, 3, STEP="10") == Shard(3, 3)
    with pytest.raises(UserError, match="evenly spaced"):
        slurm(7, 1, 3)  # --array=1,3,7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/8", "no shard 0 of 8: shards are counted from 1 to 8"),
        ("9/8", "no shard 9 of 8"),
        ("1/0", "there are no 0 shards: expected I/N"),
        ("3", "a shard is I/N"),
        ("-1/8", "a shard is I/N"),
        ("slurm", "SLURM_ARRAY_TASK_ID is not set"),
    ],
)
def test_what_is_no_shard_is_refused(text: str, message: str):
    with pytest.raises(UserError, match=message):
        read_shard(text, {})
