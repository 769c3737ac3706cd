"""What every segmenter is: it takes its turns in training, and draws votes for an image.

Legend of shapes: V votes, B batch, C image channels, K classes with the background, L label channels, `*S` two or three axes
of space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.data.batch import Batch
from cdal.losses import dice_and_cross_entropy


class Turn(NamedTuple):
    """One player's move: the loop takes that player's gradient step on the loss, then asks for the next turn.

    Attributes:
        player: a key of `Segmenter.players`.
        loss: scalar.
        terms: parts of the loss and other numbers worth logging, detached scalars.
    """

    player: str
    loss: Tensor
    terms: Mapping[str, Tensor]


class Segmenter(nn.Module, ABC):
    """An image in, votes out. A plain network is a segmenter whose votes are all alike.

    Attributes:
        predictor: the name of the player that predicts; its weights are averaged (EMA) and make the model file.
    """

    predictor: str

    @abstractmethod
    def players(self) -> dict[str, nn.Module]:
        """The networks that are trained, each by its own optimiser."""

    @abstractmethod
    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """One training step as a sequence of turns.

        Args:
            batch: the cases.
            rng: the source of every random draw.
            step: counted from 0, for terms that are computed now and then.
        """

    @abstractmethod
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """Draw votes.

        Args:
            image: `[B, C, *S]`.
            votes: V; a segmenter that is not stochastic gives one.
            rng: the source of every random draw.

        Returns:
            Probabilities `[V, B, K, *S]`, which add up to 1 over K.
        """

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Whether two votes on one image can differ."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class Supervised(Segmenter):
    """A plain network as a segmenter: one player, one turn, one vote.

    Args:
        network: `[B, C, *S] -> [B, K, *S]` logits.
        classes: K.
    """

    predictor = "network"

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self.classes = classes

    def players(self) -> dict[str, nn.Module]:
        """See `Segmenter.players`."""
        return {"network": self.network}

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """Dice and cross-entropy; see `Segmenter.turns`."""
        probabilities = self.network(batch.image).float().softmax(dim=1)
        terms = dice_and_cross_entropy(probabilities, one_hot(batch.label, self.classes))
        yield turn("network", terms)

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`; there is one vote."""
        return self.network(image).float().softmax(dim=1)[None]

    @property
    def stochastic(self) -> bool:
        """Never."""
        return False


def one_hot(label: Tensor, classes: int) -> Tensor:
    """Classes as channels, `[B, *S] -> [B, K, *S]` of float."""
    return F.one_hot(label.long(), classes).movedim(-1, 1).float()


def turn(player: str, terms: Mapping[str, Tensor]) -> Turn:
    """A turn whose loss is the sum of the terms."""
    return Turn(player, sum_of(terms), {name: term.detach() for name, term in terms.items()})


def sum_of(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(terms.values())).sum()


def randn(shape: tuple[int, ...] | torch.Size, rng: torch.Generator, like: Tensor) -> Tensor:
    """Normal draws from `rng`, brought to the device and type of `like`."""
    return torch.randn(tuple(shape), generator=rng, device=rng.device).to(like.device, like.dtype)
