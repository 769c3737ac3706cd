"""Several processes that train together: who started them, and copies of the command line.

A launcher (torchrun, Slurm's srun, or `copies`) tells each process its place in the environment.
The processes are called ranks; rank 0 alone writes and talks. This module needs no PyTorch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cdal.runtime.errors import UserError
from cdal.runtime.execution.processes import environment

_SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_PATIENCE = 30.0
"""Seconds that the other processes have to end after the first."""


class Place(NamedTuple):
    """The place of a process among those that train together.

    Attributes:
        rank: number of the process, from 0.
        devices: processes of each node, each with a device of its own.
        nodes: number of nodes.
        launcher: `torchrun` (and whatever tells ranks as it does) or `slurm`.
    """

    rank: int
    devices: int
    nodes: int
    launcher: str


def place() -> Place | None:
    """The place that a launcher has given to this process; `None` if there is no launcher.

    Raises:
        UserError: the launcher's variables are no numbers.
    """
    try:
        if all(name in os.environ for name in _SET_BY_TORCHRUN):
            rank, _, world, devices = (int(os.environ[name]) for name in _SET_BY_TORCHRUN)
            return Place(rank, devices, world // max(1, devices), "torchrun")
        # Only a step of srun has this; a batch script has one process however many it asks for.
        if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            tasks, nodes = (int(os.environ[f"SLURM_{name}"]) for name in ("NTASKS", "NNODES"))
            return Place(int(os.environ["SLURM_PROCID"]), tasks // max(1, nodes), nodes, "slurm")
    except (ValueError, KeyError) as error:
        raise UserError(
            f"the variables of torchrun or Slurm in the environment are incomplete: {error}. Start "
            "with torchrun, with srun --ntasks-per-node, or with --devices alone."
        ) from error
    return None


def need_place(devices: int, nodes: int) -> Place | None:
    """The place of this process among `devices * nodes`; `None` if it trains alone.

    Raises:
        UserError: they are several, and no launcher has started as many.
    """
    found = place()
    if devices * nodes == 1 and (found is None or found.launcher == "slurm"):
        return None  # srun may start trainings that have nothing to do with each other
    if found is None:
        raise UserError(
            f"{devices * nodes} devices need as many processes, and this is one. The command line "
            f"starts them: cdal train ... --devices {devices}. A program of your own can call "
            "cdal.train with devices if torchrun or srun has started it."
        )
    if (found.devices, found.nodes) != (devices, nodes):
        raise UserError(
            f"--devices {devices} --nodes {nodes}: {found.launcher} has started {found.devices} "
            f"process(es) on each of {found.nodes} node(s). Give both the same numbers."
        )
    return None if devices * nodes == 1 else found


@contextmanager
def copies(devices: int, nodes: int, joined: Callable[[], bool]) -> Iterator[None]:
    """Start a copy of this command line for each further device of this node.

    With several nodes the same command is started on each, with the variables MASTER_ADDR,
    MASTER_PORT and NODE_RANK. Nothing is started if a launcher has done so.

    Args:
        devices: processes of this node, this one included.
        nodes: number of nodes.
        joined: says whether all processes have found each other. Until then a copy that fails ends
            this process, which would wait for it in vain.

    Raises:
        UserError: there are several nodes, and a variable is missing.
    """
    if devices * nodes == 1 or place() is not None:
        yield
        return
    variables = _variables(devices, nodes)
    started = [_started(local, variables) for local in range(1, devices)]
    threading.Thread(target=_watch, args=(started, joined), daemon=True).start()
    try:
        with environment(variables):
            yield
    finally:
        _end(started)


def _variables(devices: int, nodes: int) -> dict[str, str]:
    """What torchrun would tell the first process of this node."""
    needed = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if nodes > 1 else ()
    if missing := [name for name in needed if name not in os.environ]:
        raise UserError(
            f"--nodes {nodes}: expected {', '.join(missing)} in the environment: the address and a "
            "free port of the first node, and this node's number from 0. torchrun and srun set "
            "them."
        )
    from lightning_fabric.plugins.environments import LightningEnvironment

    environment = LightningEnvironment()
    return {
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
        "WORLD_SIZE": str(devices * nodes),
        "LOCAL_WORLD_SIZE": str(devices),
        "GROUP_RANK": str(environment.node_rank()),
        "RANK": str(environment.node_rank() * devices),
        "LOCAL_RANK": "0",
        # Else PyTorch prints its own stack for a rank that is gone.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }


def _started(local: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the copy with this number on this node."""
    own = {"LOCAL_RANK": str(local), "RANK": str(int(variables["RANK"]) + local)}
    environment = {**os.environ, **variables, **own, "PYTHONSAFEPATH": "1"}
    return subprocess.Popen([sys.executable, "-m", "cdal", *sys.argv[1:]], env=environment)


def _watch(started: Sequence[subprocess.Popen[bytes]], joined: Callable[[], bool]) -> None:
    """End this process with code 2 if a copy fails before all have found each other."""
    while not joined():
        for local, copy in enumerate(started, start=1):
            if copy.poll():
                sys.stderr.write(
                    f"cdal train: process {local} of this node ended with code {copy.returncode} "
                    "before the training began. Its message is above.\n"
                )
                sys.stderr.flush()
                _end(started, 0.0)
                os._exit(2)
        if all(copy.poll() is not None for copy in started):
            return
        time.sleep(0.2)


def _end(started: Sequence[subprocess.Popen[bytes]], patience: float = _PATIENCE) -> None:
    """Wait for the copies, and end those that are left after some time."""
    until = time.monotonic() + patience
    while time.monotonic() < until and any(copy.poll() is None for copy in started):
        time.sleep(0.05)
    for copy in started:
        copy.kill()
        copy.wait()
