"""One training step: the turns of all players. On a GPU, steps of one kind are recorded once and replayed as a CUDA graph.

A step is thousands of small operations, and a processor launches them ten times slower than a GPU computes them. A graph holds them
all and is one launch. It does the same operations in the same order with the same draws, so the weights are the same, bit by bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.runtime.seeds import generator
from cdal.segmenters.segmenter import Segmenter

_SHARE = 0.4
"""Of a GPU's memory. A recording keeps what its step needs, beside what other steps and the validation need."""

_EAGER = 3
"""Steps of each kind that are taken one operation at a time, before one is recorded: libraries choose their algorithms in them."""


class Move(NamedTuple):
    """What a player's turn came to.

    Attributes:
        player: who moved.
        loss: scalar.
        norm: of the gradient, before it was clipped.
        terms: parts of the loss.
    """

    player: str
    loss: Tensor
    norm: Tensor
    terms: Mapping[str, Tensor]


class Steps:
    """Takes the turns of a step, one operation at a time.

    Args:
        segmenter: whose turns.
        optimisers: by player.
        clip: largest norm of a gradient.
        fabric: precision and backward passes.
    """

    def __init__(self, segmenter: Segmenter, optimisers: Mapping[str, torch.optim.Optimizer], clip: float, fabric: Fabric) -> None:
        self.segmenter, self.optimisers, self.clip, self.fabric = segmenter, optimisers, clip, fabric
        self.players = segmenter.players()

    def about(self) -> str:
        """How steps are taken, for the record of what a training cost."""
        return "one operation at a time"

    def __call__(self, batch: Batch, keys: tuple[int | str, ...], step: int) -> list[Move]:
        """All turns of a step.

        Args:
            batch: on the device.
            keys: of the step's random draws, see `cdal.runtime.seeds.generator`.
            step: counted from 0.
        """
        return self._turns(batch, generator(*keys, device=self.fabric.device), step)

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
            norm = nn.utils.clip_grad_norm_(player.parameters(), self.clip)
            optimiser.step()
            moves.append(Move(turn.player, turn.loss.detach(), norm.detach(), turn.terms))


class RecordedSteps(Steps):
    """The same on a GPU, by CUDA graphs: one for each kind of step (`Segmenter.kind`) and shape of a batch.

    Nothing is recorded where the GPU's memory is short, or where turns look at numbers on the GPU to decide what to do.
    """

    def __init__(self, segmenter: Segmenter, optimisers: Mapping[str, torch.optim.Optimizer], clip: float, fabric: Fabric) -> None:
        super().__init__(segmenter, optimisers, clip, fabric)
        self.stream = torch.cuda.Stream(fabric.device)
        self.pool: Any = torch.cuda.graph_pool_handle()
        self.taken: Counter[Hashable] = Counter()
        self.recordings: dict[Hashable, _Recording] = {}
        self.obstacle = ""
        """Why nothing more is recorded."""
        torch.cuda.reset_peak_memory_stats(fabric.device)  # so that the peak is that of these steps

    def about(self) -> str:
        """See `Steps.about`."""
        told = f"{len(self.recordings)} kinds recorded" if self.recordings else super().about()
        return f"{told}: {self.obstacle}" if self.obstacle else told

    def __call__(self, batch: Batch, keys: tuple[int | str, ...], step: int) -> list[Move]:
        """See `Steps.__call__`. The moves are overwritten by the next step of the same kind."""
        kind = self.segmenter.kind(step)
        key = (kind, batch.image.shape)
        self.taken[key] += kind is not None
        if self.taken[key] > _EAGER and key not in self.recordings and not self.obstacle:
            self.obstacle = self._short_of_memory() or self._record(key, batch, step)
        if key in self.recordings:
            return self.recordings[key].replay(batch, keys)
        # On the stream on which it will be recorded: a gradient belongs to the stream that it was first computed on.
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            moves = super().__call__(batch, keys, step)
        torch.cuda.current_stream().wait_stream(self.stream)
        return moves

    def _short_of_memory(self) -> str:
        """Says so, where a recording, which keeps what its step needs, would leave too little for all else."""
        device = self.fabric.device
        needed, free = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[0]
        ours = torch.cuda.memory_reserved(device)
        if needed <= _SHARE * (free + ours):
            return ""
        return f"a step needs {needed / 2**30:.1f} GiB, and the GPU has {(free + ours) / 2**30:.1f}"

    def _record(self, key: Hashable, batch: Batch, step: int) -> str:
        """Record a step without taking it; returns why that was not possible."""
        seen = Batch(batch.image.clone(), batch.label.clone(), batch.cases)
        rng = generator(0, device=self.fabric.device)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(rng)
        try:
            # Other threads, which make batches, do not concern it.
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                moves = self._turns(seen, rng, step)
        except RuntimeError as error:
            return (str(error).strip() or type(error).__name__).splitlines()[0]
        self.recordings[key] = _Recording(graph, seen, rng, moves)
        return ""


class _Recording(NamedTuple):
    """A graph, what it reads and what it writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    rng: torch.Generator
    moves: list[Move]

    def replay(self, batch: Batch, keys: tuple[int | str, ...]) -> list[Move]:
        self.batch.image.copy_(batch.image)
        self.batch.label.copy_(batch.label)
        self.rng.manual_seed(generator(*keys).initial_seed())
        self.graph.replay()
        return self.moves
