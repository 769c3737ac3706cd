"""The executor that the options of the command line name."""

from __future__ import annotations

from cdal.runtime.errors import UserError
from cdal.runtime.execution.executor import Executor, Here
from cdal.runtime.execution.ray_engine import RayWorkers
from cdal.runtime.execution.workers import LocalWorkers
from cdal.runtime.threads import thread_count

ENGINES = ("process", "ray")


def find_executor(
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    ahead: int = 2,
) -> Executor:
    """The executor of some options: this process if neither an engine nor workers are named.

    Args:
        engine: `process` or `ray`; `None` for `process` if there are workers.
        workers: number of workers; `None` for one for each GPU, else for each processor.
        address: address of a running Ray cluster; `None` to start one on this machine.
        device: device to compute on.
        ahead: tasks that a worker holds at most.

    Raises:
        UserError: the options do not fit together, or Ray is needed and not installed.
    """
    if engine not in (None, *ENGINES):
        raise UserError(f"no engine {engine!r}. Expected one of {', '.join(ENGINES)}.")
    if address is not None and engine != "ray":
        raise UserError("--address is that of a Ray cluster: give --engine ray with it.")
    if engine == "ray":
        return RayWorkers(workers, address, device in ("auto", "cuda"), ahead)
    if engine is None and workers is None:
        return Here()
    gpus = _gpus(device)
    return LocalWorkers(workers if workers is not None else gpus or thread_count(), gpus, ahead)


def _gpus(device: str) -> int:
    """Number of GPUs to share out on this machine."""
    import torch

    from cdal.runtime.devices import find_device

    return torch.cuda.device_count() if find_device(device).type == "cuda" else 0
