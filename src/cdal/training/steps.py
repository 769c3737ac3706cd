"""One training step: the turns of all players.

On a GPU, each kind of step is recorded once and then replayed as a CUDA graph. A step consists of
thousands of small operations, and a CPU launches them ten times more slowly than a GPU computes
them. A graph contains all operations of a step and needs one launch. It does the same operations in
the same order with the same random draws, so the weights are identical, bit by bit.

Several ranks take their turns together, each on its slice of the batch. Their gradients are
averaged after each turn, so the players stay alike. Such steps are not recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.runtime.execution.ranks import average_gradients
from cdal.runtime.seeds import generator
from cdal.segmenters.draws import slice_generator
from cdal.segmenters.segmenter import Segmenter

_SHARE = 0.4
"""Largest share of a GPU's memory that a step may need to be recorded.

A recording keeps the memory of its step, and other steps and the validation need memory as well.
"""

_EAGER = 3
"""Number of steps of each kind that run one operation at a time before one is recorded.

Libraries choose their algorithms in these steps.
"""


class Move(NamedTuple):
    """The result of a player's turn.

    Attributes:
        player: name of the player.
        loss: loss of the player, a scalar.
        norm: norm of the gradient before clipping.
        terms: parts of the loss.
    """

    player: str
    loss: Tensor
    norm: Tensor
    terms: Mapping[str, Tensor]


class Steps:
    """Takes the turns of a step, one operation at a time.

    Args:
        segmenter: segmenter to train.
        optimisers: optimiser of each player.
        clip: largest norm of a gradient; larger gradients are scaled down to it.
        fabric: device, precision and backward passes.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        optimisers: Mapping[str, torch.optim.Optimizer],
        clip: float,
        fabric: Fabric,
    ) -> None:
        self.segmenter, self.optimisers, self.clip, self.fabric = (
            segmenter,
            optimisers,
            clip,
            fabric,
        )
        self.players = segmenter.players()

    def about(self) -> str:
        """How steps are taken, for the record of the training's cost."""
        return "one operation at a time"

    def __call__(self, batch: Batch, keys: tuple[int | str, ...], step: int) -> list[Move]:
        """Take all turns of a step.

        Args:
            batch: batch on the device, or this rank's slice of it.
            keys: keys of the random generator of the step, see `cdal.runtime.seeds.generator`.
            step: number of the step, counted from 0.
        """
        fabric = self.fabric
        rng = generator(*keys, device=fabric.device)
        rng = slice_generator(rng, fabric.global_rank, fabric.world_size, len(batch.image))
        return self._turns(batch, rng, step)

    def _turns(self, batch: Batch, rng: torch.Generator, step: int) -> list[Move]:
        moves: list[Move] = []
        turns = self.segmenter.train().turns(batch, rng, step)
        while True:
            with self.fabric.autocast():
                turn = next(turns, None)
            if turn is None:
                return moves
            player, optimiser = self.players[turn.player], self.optimisers[turn.player]
            optimiser.zero_grad(set_to_none=True)
            self.fabric.backward(turn.loss)
            average_gradients(player)
            norm = nn.utils.clip_grad_norm_(player.parameters(), self.clip)
            optimiser.step()
            moves.append(Move(turn.player, turn.loss.detach(), norm.detach(), turn.terms))


class RecordedSteps(Steps):
    """Takes the turns of a step on a GPU, with CUDA graphs.

    There is one graph for each kind of step (`Segmenter.kind`) and shape of a batch. Steps are not
    recorded if the GPU has too little memory, or if turns read numbers from the GPU to decide what
    to do.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        optimisers: Mapping[str, torch.optim.Optimizer],
        clip: float,
        fabric: Fabric,
    ) -> None:
        super().__init__(segmenter, optimisers, clip, fabric)
        self.stream = torch.cuda.Stream(fabric.device)
        self.pool: Any = torch.cuda.graph_pool_handle()
        self.taken: Counter[Hashable] = Counter()
        self.recordings: dict[Hashable, _Recording] = {}
        self.obstacle = ""
        """Reason why no more steps are recorded; empty without one."""
        torch.cuda.reset_peak_memory_stats(fabric.device)  # measure the peak of these steps only

    def about(self) -> str:
        """See `Steps.about`."""
        summary = f"{len(self.recordings)} kinds recorded" if self.recordings else super().about()
        return f"{summary}: {self.obstacle}" if self.obstacle else summary

    def __call__(self, batch: Batch, keys: tuple[int | str, ...], step: int) -> list[Move]:
        """See `Steps.__call__`. The next step of the same kind overwrites the moves."""
        kind = self.segmenter.kind(step)
        key = (kind, batch.image.shape)
        self.taken[key] += kind is not None
        if self.taken[key] > _EAGER and key not in self.recordings and not self.obstacle:
            self.obstacle = self._short_of_memory() or self._record(key, batch, step)
        if key in self.recordings:
            return self.recordings[key].replay(batch, keys)
        # The step runs on the stream of the later recording, because a gradient belongs to the
        # stream on which it was first computed.
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            moves = super().__call__(batch, keys, step)
        torch.cuda.current_stream().wait_stream(self.stream)
        return moves

    def _short_of_memory(self) -> str:
        """Reason why the memory is too small for a recording; empty if it is large enough."""
        device = self.fabric.device
        needed_bytes, free_bytes = (
            torch.cuda.max_memory_allocated(device),
            torch.cuda.mem_get_info(device)[0],
        )
        available_bytes = free_bytes + torch.cuda.memory_reserved(device)
        if needed_bytes <= _SHARE * available_bytes:
            return ""
        return (
            f"a step needs {needed_bytes / 2**30:.1f} GiB, and the GPU has "
            f"{available_bytes / 2**30:.1f}"
        )

    def _record(self, key: Hashable, batch: Batch, step: int) -> str:
        """Record a step without taking it; returns why that failed, or an empty text."""
        recorded_batch = batch.with_tensors(torch.clone)
        rng = generator(0, device=self.fabric.device)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(rng)
        try:
            # `thread_local`: other threads may prepare batches during the recording.
            with torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
            ):
                moves = self._turns(recorded_batch, rng, step)
        except RuntimeError as error:
            return (str(error).strip() or type(error).__name__).splitlines()[0]
        self.recordings[key] = _Recording(graph, recorded_batch, rng, moves)
        return ""


class _Recording(NamedTuple):
    """A CUDA graph with its inputs and outputs."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    rng: torch.Generator
    moves: list[Move]

    def replay(self, batch: Batch, keys: tuple[int | str, ...]) -> list[Move]:
        self.batch.image.copy_(batch.image)
        self.batch.label.copy_(batch.label)
        if self.batch.others is not None and batch.others is not None:
            self.batch.others.copy_(batch.others)
        self.rng.manual_seed(generator(*keys).initial_seed())
        self.graph.replay()
        return self.moves
