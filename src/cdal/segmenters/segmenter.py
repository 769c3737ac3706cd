"""The interface of all segmenters: they take turns in training and draw votes for an image.

Symbols in shapes: V votes, B images of a batch, C image channels, K classes with the background,
L label channels, `*S` two or three spatial axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.runtime.errors import UserError
from cdal.segmenters.losses import dice_and_cross_entropy_of_logits
from cdal.segmenters.random_inputs import RandomInputs


class Turn(NamedTuple):
    """The turn of one player in a training step.

    The training loop takes a gradient step of this player on the loss, then asks for the next turn.

    Attributes:
        player: name of the player, a key of `Segmenter.players`.
        loss: loss of the player, a scalar.
        terms: parts of the loss and other numbers for the log, as detached scalars.
    """

    player: str
    loss: Tensor
    terms: Mapping[str, Tensor]


class Segmenter(nn.Module, ABC):
    """A model that draws votes, which are possible segmentations of an image.

    A plain network is a segmenter whose votes are all identical.

    Attributes:
        predictor: name of the player that predicts. Its weights are averaged (EMA) and stored in
            the model file.
    """

    predictor: str

    @abstractmethod
    def players(self) -> dict[str, nn.Module]:
        """Networks to train, by name. Each has its own optimiser."""

    @abstractmethod
    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """Run one training step as a sequence of turns.

        Args:
            batch: cases to train on.
            rng: random generator for all draws.
            step: number of the step, counted from 0. Some terms are computed only in some steps.
        """

    def kind(self, step: int) -> Hashable:
        """Kind of a step; `None` if the step must never be recorded.

        Steps of the same kind do the same operations with the same numbers. Only the batch and the
        random draws differ. Training on a GPU records each kind once and replays it.

        Args:
            step: number of the step, see `turns`.
        """
        return None

    @abstractmethod
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """Draw votes.

        Args:
            image: images `[B, C, *S]`.
            votes: V, the number of votes. A segmenter that is not stochastic returns one.
            rng: random generator for all draws.

        Returns:
            Probabilities `[V, B, K, *S]`, which sum to 1 over K.
        """

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Whether two votes on one image can differ."""

    draws_apart: bool = False
    """Whether `draw_apart` and `sample_drawn` are there."""

    def draw_apart(self, image: Tensor, votes: int, rng: torch.Generator) -> list[Any]:
        """Draw the random numbers of `sample` and nothing else; only the image's shape counts.

        Returns:
            The numbers of each image of the batch.
        """
        raise NotImplementedError

    def sample_drawn(self, image: Tensor, draws: Sequence[Any]) -> Tensor:
        """As `sample`, with the numbers of `draw_apart` for each image."""
        raise NotImplementedError

    def graph(self) -> Graph | None:
        """This segmenter as a function, for export; `None` if it draws random numbers in steps."""
        return None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device


class Graph(nn.Module, ABC):
    """A segmenter as a function of one image and its random inputs.

    Attributes:
        random: description of the random inputs.
    """

    random: RandomInputs

    @abstractmethod
    def forward(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Compute the votes.

        Args:
            image: one image `[1, C, *S]`.
            draws: tensors of `RandomInputs.draw`, in their order.

        Returns:
            Probabilities `[V, K, *S]`.
        """


Loss = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Function from logits `[B, K, *S]` in float32 and the one-hot truth to the terms of a loss."""


class OneNetwork(Segmenter):
    """A segmenter with one player, its network."""

    predictor = "network"
    network: nn.Module

    def players(self) -> dict[str, nn.Module]:
        """See `Segmenter.players`."""
        return {"network": self.network}


class Drawing(OneNetwork):
    """One network whose votes are drawn at random."""

    @property
    def stochastic(self) -> bool:
        """Always `True`."""
        return True

    def kind(self, step: int) -> Hashable:
        """See `Segmenter.kind`; all steps have the same kind."""
        return "alike"


class Deterministic(OneNetwork):
    """One network, trained and applied without random numbers: one player, one vote."""

    @property
    def stochastic(self) -> bool:
        """Always `False`."""
        return False

    def graph(self) -> Graph:
        """See `Segmenter.graph`."""
        return _Plain(self)


class _Plain(Graph):
    random = RandomInputs()

    def __init__(self, segmenter: Deterministic) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor, *draws: Tensor) -> Tensor:
        """See `Graph.forward`."""
        return self.segmenter.sample(image, 1, torch.Generator())[:, 0]


class Supervised(Deterministic):
    """A plain network as a segmenter: one player, one turn, one vote.

    Args:
        network: network from images `[B, C, *S]` to logits `[B, K, *S]`. In training it may return
            several outputs (deep supervision), the final one first.
        classes: K, the number of classes.
        loss: loss of each output; Dice and cross-entropy by default.
        decay: weight of each output relative to the one before it. The weights are scaled to sum
            to 1.
        alike: whether all steps do the same operations, see `Segmenter.kind`.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        loss: Loss = dice_and_cross_entropy_of_logits,
        decay: float = 1.0,
        alike: bool = True,
    ) -> None:
        super().__init__()
        self.network, self.classes, self.loss, self.decay, self.alike = (
            network,
            classes,
            loss,
            decay,
            alike,
        )

    def kind(self, step: int) -> Hashable:
        """See `Segmenter.kind`. All steps have the same kind if `alike`, otherwise none."""
        return "alike" if self.alike else None

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`. The loss is the weighted sum over all outputs."""
        truth = one_hot(batch.labels(), self.classes)
        outputs = [batch.per_annotator(logits) for logits in self._outputs(batch.image)]
        weights = [self.decay**i for i in range(len(outputs))]
        terms: dict[str, Tensor] = {}
        for weight, logits in zip(weights, outputs, strict=True):
            for name, value in self.loss(logits, truth).items():
                terms[name] = terms.get(name, 0) + weight / sum(weights) * value
        yield turn("network", terms)

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`; returns one vote."""
        return self._outputs(image)[0].softmax(dim=1)[None]

    def _outputs(self, image: Tensor) -> list[Tensor]:
        output = self.network(image)
        outputs = list(output) if isinstance(output, (list, tuple)) else [output]
        expected = (len(image), self.classes, *image.shape[2:])
        for logits in outputs:
            if not isinstance(logits, Tensor) or logits.shape != expected:
                received = (
                    tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                )
                raise UserError(
                    f"the network {type(self.network).__name__} must give logits of shape "
                    f"{expected} (batch, classes, space) for an image of shape "
                    f"{tuple(image.shape)}; it gave {received}."
                )
        return [logits.float() for logits in outputs]


def one_hot(label: Tensor, classes: int) -> Tensor:
    """One-hot encode the classes as float channels, `[B, *S] -> [B, K, *S]`."""
    return F.one_hot(label.long(), classes).movedim(-1, 1).float()


def turn(player: str, terms: Mapping[str, Tensor]) -> Turn:
    """Make a turn whose loss is the sum of the terms."""
    return Turn(player, sum_of(terms), {name: term.detach() for name, term in terms.items()})


def sum_of(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum of scalar tensors."""
    return torch.stack(list(terms.values())).sum()


def parameters(segmenter: Segmenter) -> int:
    """Number of learned parameters of the network that predicts."""
    return sum(weight.numel() for weight in segmenter.players()[segmenter.predictor].parameters())
