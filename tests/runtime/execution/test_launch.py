"""Who started the processes that train together."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from cdal.runtime.errors import UserError
from cdal.runtime.execution.launch import copies, need_place, place

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SLURM = {
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_NTASKS": "6",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "5",
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch):
    for name in (*TORCHRUN, *SLURM, "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_place_is_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch):
    assert place() is None
    with monkeypatch.context() as patched:
        set_all(patched, SLURM)
        assert place() == (5, 3, 2, "slurm")
        patched.delenv("SLURM_NNODES")
        with pytest.raises(UserError, match="incomplete"):
            place()
    set_all(monkeypatch, TORCHRUN)
    assert place() == (3, 2, 2, "torchrun")


def test_a_batch_script_of_slurm_starts_no_ranks(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, {name: SLURM[name] for name in ("SLURM_NTASKS", "SLURM_PROCID")})
    assert place() is None


def test_trainings_that_srun_starts_side_by_side_stay_apart(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, SLURM)
    assert need_place(1, 1) is None
    assert need_place(3, 2) is not None


def test_numbers_that_differ_from_the_launcher_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"cdal train \.\.\. --devices 2"):
        need_place(2, 1)
    set_all(monkeypatch, TORCHRUN)
    with pytest.raises(UserError, match="torchrun has started 2 process"):
        need_place(4, 1)


def test_several_nodes_need_an_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    with (
        pytest.raises(UserError, match="expected MASTER_PORT, NODE_RANK"),
        copies(2, 2, lambda: True),
    ):
        pass


def test_copies_get_their_places_and_the_environment_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
):
    """A program that does nothing stands for the copies."""
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    with copies(3, 1, lambda: True):
        found = place()
        assert found is not None
        assert found[:3] == (0, 3, 1)
        assert int(os.environ["MASTER_PORT"]) > 0
    assert not {*TORCHRUN, "MASTER_ADDR", "MASTER_PORT"} & set(os.environ)
