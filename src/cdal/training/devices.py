"""The devices that a training computes on, and what several of them must agree about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import find_device, wants_bf16
from cdal.runtime.errors import UserError
from cdal.runtime.execution import ranks
from cdal.runtime.execution.launch import need_place, place
from cdal.runtime.threads import share_of_threads
from cdal.segmenters.segmenter import Segmenter

TIMEOUT = timedelta(minutes=10)
"""Longest time that a rank waits for the others, such as for a case of the validation."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def number_of_devices(devices: int | str | None, nodes: int | None, device: str) -> tuple[int, int]:
    """The number of devices of each node, and of nodes.

    Args:
        devices: a number; `auto` for all GPUs of this machine, or one process on a CPU; `None` for
            what torchrun has started, else one.
        nodes: a number; `None` for what torchrun has started, else one.
        device: kind of device, as for `find_device`.

    Raises:
        UserError: a number is below 1 or is none, or there are fewer GPUs.
    """
    found, kind = place(), find_device(device).type
    torchrun = found if found and found.launcher == "torchrun" else None
    if devices is None:
        each = torchrun.devices if torchrun else 1
    elif devices == "auto":
        each = found.devices if found else max(1, torch.cuda.device_count() * (kind == "cuda"))
    elif str(devices).isdigit() and int(devices) >= 1:
        each = int(devices)
    else:
        raise UserError(f"--devices must be auto, or 1 or more; it is {devices!r}.")
    if nodes is None:
        nodes = torchrun.nodes if torchrun else 1
    if nodes < 1:
        raise UserError(f"--nodes must be 1 or more; it is {nodes}.")
    if each * nodes > 1 and kind == "mps":
        raise UserError("one process can use Metal. Give --devices 1, or --device cpu.")
    if kind == "cuda" and each > torch.cuda.device_count():
        raise UserError(
            f"--devices {each}: this machine has {torch.cuda.device_count()} GPU(s). Give as many, "
            "or --device cpu."
        )
    return each, nodes


def need_slices(recipe: Recipe, count: int) -> None:
    """Require that a batch can be divided among ranks.

    Raises:
        UserError: it cannot; the message says by which numbers it can.
    """
    batch = recipe.training.batch
    if batch % count:
        fitting = [str(n) for n in range(1, batch + 1) if batch % n == 0]
        raise UserError(
            f"training.batch is {batch}, the patches of a step on all devices together: it cannot "
            f"be divided by {count}. Give {' or '.join(fitting)} devices in all, or "
            f"--training.batch {count * -(-batch // count)}."
        )


def need_shareable(segmenter: Segmenter, recipe: Recipe) -> None:
    """Require that several ranks can train a segmenter as one does.

    Raises:
        UserError: its batch normalisation, or a class of the user's own, looks at a whole batch.
    """
    name = recipe.segmenter.name
    if ranks.count() == 1:
        return
    if any(isinstance(module, _BATCH_NORMS) for module in segmenter.modules()):
        raise UserError(
            f"{name} has batch normalisation, which needs the whole batch on one device: each of "
            f"{ranks.count()} would have the statistics of its own few patches. Give --devices 1, "
            "or a segmenter that normalises each image."
        )
    if not type(segmenter).__module__.startswith("cdal."):
        raise UserError(
            f"{name} is a cdal.Segmenter of your own, whose losses and draws may be of a whole "
            "batch. Give --devices 1, or a plain torch module (its loss is ours)."
        )


def need_same_data(fingerprint: str) -> None:
    """Require that all ranks have the same cases.

    Raises:
        UserError: they differ.
    """
    if len(set(ranks.gathered([fingerprint]))) > 1:
        raise UserError(
            "the ranks have read different data. Give all nodes the same data folder, or the same "
            "copy of it."
        )


@contextmanager
def together(
    recipe: Recipe, device: str, devices: int, nodes: int, checkpoint: Path
) -> Iterator[Fabric]:
    """Choose device and precision, and join the other ranks for the time of the block.

    Args:
        recipe: recipe to train.
        device: see `find_device`.
        devices: devices of each node.
        nodes: number of nodes.
        checkpoint: where the run keeps its checkpoint, for the message if a rank is lost.

    Raises:
        UserError: the processes are not there, they cannot find each other, or one is lost within
            the block. The message names it.
    """
    where = need_place(devices, nodes)
    if where is None:
        yield make_fabric(recipe, device)
        return
    need_slices(recipe, devices * nodes)
    try:
        fabric = make_fabric(recipe, device, devices, nodes)
        fabric.launch()
        roll = ranks.RollCall(fabric.global_rank, TIMEOUT)
    except (RuntimeError, ValueError, ranks.DisconnectedError) as error:
        raise UserError(
            f"rank {where.rank} has not found the other ranks: {str(error).splitlines()[0]}. "
            "Start all of them, with the same numbers of devices and nodes; the first node must be "
            "reachable."
        ) from error
    torch.set_num_threads(min(torch.get_num_threads(), share_of_threads(devices)))
    try:
        yield fabric
    except ranks.DisconnectedError as error:
        then = (
            "resumes from the last checkpoint"
            if checkpoint.is_file()
            else "starts again from the first step, as there is no checkpoint yet"
        )
        raise UserError(
            f"{roll.end(error)} ({error}). This rank ends too. The same command {then}."
        ) from error
    except BaseException as error:
        roll.end(error)
        raise
    else:
        roll.end(None)


def make_fabric(recipe: Recipe, device: str, devices: int = 1, nodes: int = 1) -> Fabric:
    """Choose device and precision, see `find_device` and `TrainingSettings.precision`."""
    chosen, precision = find_device(device), recipe.training.precision
    bf16 = wants_bf16(precision, chosen) and (precision == "bf16" or _bf16_is_sound(recipe, chosen))
    name: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if bf16 else "32-true"
    if devices * nodes == 1:
        return Fabric(accelerator=chosen.type, devices=1, precision=name)
    found = place()
    slurm = found is not None and found.launcher == "slurm"
    environment = SLURMEnvironment(auto_requeue=False) if slurm else TorchElasticEnvironment()
    return Fabric(
        accelerator=chosen.type,
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(cluster_environment=environment, timeout=TIMEOUT),
        precision=name,
    )


def _bf16_is_sound(recipe: Recipe, device: torch.device) -> bool:
    """Whether gradients in bf16 can be trusted.

    On a CPU, PyTorch (2.13) reads uninitialised memory in the weight gradient of a 3D convolution
    over 2 voxels or fewer.
    """
    if device.type != "cpu" or recipe.data.spatial_dims == 2:
        return True
    return recipe.segmenter.smallest_grid(recipe.data) > 2
