"""What several ranks compute together. With one rank every function is the identity.

A collective that fails says that a rank is gone: `DisconnectedError`. `RollCall` finds out which.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

GRACE = 10.0
"""Seconds that a rank has to answer when another is missed."""

_LINGER = 1.0
"""Seconds that rank 0 stays for the others to read why it ends."""

_Item = TypeVar("_Item")


class DisconnectedError(Exception):
    """A collective has failed: another rank is gone, or does not answer."""


def joined() -> bool:
    """Whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def count() -> int:
    """Number of ranks that train together."""
    return dist.get_world_size() if joined() else 1


def total(x: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, with its gradient.

    It is for sums over a whole batch, of which every rank has a slice. The loss that is made of
    them is then the same on every rank, and so is the gradient of the loss in the sum. As the ranks
    average the gradients of their weights afterwards, each counts its own share once for each rank.
    """
    summed: Tensor = _Total.apply(x) if count() > 1 else x
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.detach().clone()
        collective(partial(dist.all_reduce, summed))
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * count()


def mean(x: Tensor) -> Tensor:
    """The mean of a tensor over all ranks, without gradient; `x` itself is overwritten."""
    if count() == 1:
        return x
    collective(partial(dist.all_reduce, x))
    return x.div_(count())


@torch.no_grad()
def average_gradients(player: nn.Module) -> None:
    """Replace the gradients of a player by their mean over all ranks, in one message."""
    gradients = [weight.grad for weight in player.parameters() if weight.grad is not None]
    if count() == 1 or not gradients:
        return
    flat = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def start_alike(module: nn.Module) -> None:
    """Give a module the weights and buffers that rank 0 has."""
    if count() > 1:
        for tensor in module.state_dict().values():
            collective(partial(dist.broadcast, tensor, 0))


def of_first(number: float, device: torch.device) -> float:
    """The number that rank 0 has."""
    if count() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.float64, device=device)
    collective(partial(dist.broadcast, shared, 0))
    return float(shared)


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if count() == 1:
        return flag
    shared = torch.tensor(float(flag), device=device)
    collective(partial(dist.all_reduce, shared))
    return bool(shared > 0)


def gathered(items: Sequence[_Item]) -> list[_Item]:
    """The items of all ranks in turn: the first of each rank, then the second, and so on."""
    if count() == 1:
        return list(items)
    by_rank: list[list[_Item]] = [[] for _ in range(count())]
    collective(partial(dist.all_gather_object, by_rank, list(items)))
    longest = max(map(len, by_rank))
    return [row[i] for i in range(longest) for row in by_rank if i < len(row)]


def collective(call: Callable[[], object]) -> None:
    """Call a function of `torch.distributed`.

    Raises:
        DisconnectedError: it failed.
    """
    try:
        call()
    except RuntimeError as error:
        said = str(error).partition("] ")[2] or str(error)  # after the place in the library
        raise DisconnectedError(said.strip().splitlines()[0].split(". ")[0]) from error


class RollCall:
    """A list, kept by rank 0, of the ranks that have ended, and why.

    Args:
        rank: number of this rank.
        timeout: longest time to wait for the others at the start.
    """

    def __init__(self, rank: int, timeout: timedelta) -> None:
        self.rank, self.ranks = rank, count()
        # A store of its own outlives the connections, which are closed before the roll is called.
        host, port = os.environ["MASTER_ADDR"], [0]
        self.store: Any = None
        if rank == 0:
            self.store = dist.TCPStore(host, 0, None, True, timeout, wait_for_workers=False)
            port = [self.store.port]
        collective(partial(dist.broadcast_object_list, port, 0))
        if rank > 0:
            self.store = dist.TCPStore(host, port[0], None, False, timeout)

    def end(self, error: BaseException | None) -> str:
        """Close the connections and say why this rank ends; returns why the others did.

        Args:
            error: what ends this rank; `None` if it has finished.
        """
        dist.destroy_process_group()
        own = "" if error is None or isinstance(error, DisconnectedError) else str(error)
        names = {rank: f"ended/{rank}" for rank in range(self.ranks)}
        try:
            self.store.set(names[self.rank], own or "-")
            if error is None:
                return ""
            until = time.monotonic() + GRACE
            missing = list(names)
            while missing and time.monotonic() < until:
                missing = [rank for rank in missing if not self.store.check([names[rank]])]
                time.sleep(0.05)
            if missing:
                return _told(missing, self.ranks)
            reasons = {rank: self.store.get(name).decode() for rank, name in names.items()}
            time.sleep(_LINGER if self.rank == 0 else 0.0)
        except RuntimeError:  # the store has gone with the process that kept it
            return _told([0], self.ranks)
        ended = [f"rank {rank} has ended: {why}" for rank, why in reasons.items() if why != "-"]
        return "; ".join(ended) or "the ranks have lost their connection"


def _told(missing: Sequence[int], ranks: int) -> str:
    named = ", ".join(map(str, missing))
    return f"of the ranks 0 to {ranks - 1}, {named} {'are' if len(missing) > 1 else 'is'} missing"
