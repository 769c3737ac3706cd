"""What every segmenter is: it takes its turns in training, and draws votes for an image.

Legend of shapes: V votes, B batch, C image channels, K classes with the background, L label channels, `*S` two or three axes
of space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.runtime.errors import UserError
from cdal.segmenters.losses import dice_and_cross_entropy
from cdal.segmenters.random_inputs import RandomInputs


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

    def kind(self, step: int) -> Hashable:
        """Steps of the same kind do the same operations with the same numbers, but for the batch and the random draws.

        A GPU's training records each kind once and replays it. `None` is no kind: the step is never recorded.

        Args:
            step: see `turns`.
        """
        return None

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

    def graph(self) -> Graph | None:
        """This segmenter as a function, for export; `None` if it draws its chance step by step."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class Graph(nn.Module, ABC):
    """A segmenter as a function of one image `[1, C, *S]` and of its random inputs, which gives the votes `[V, K, *S]`.

    Attributes:
        random: the random inputs.
    """

    random: RandomInputs

    @abstractmethod
    def forward(self, image: Tensor, *draws: Tensor) -> Tensor:
        """The votes; `draws` are the tensors of `RandomInputs.draw`, in their order."""


Loss = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Terms of a loss, from logits `[B, K, *S]` in float32 and the one-hot truth."""


def dice_and_cross_entropy_of_logits(logits: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
    """See `cdal.segmenters.losses.dice_and_cross_entropy`."""
    return dice_and_cross_entropy(logits.softmax(dim=1), truth)


class Deterministic(Segmenter):
    """One network that learns and predicts, without chance: one player, one vote."""

    predictor = "network"
    network: nn.Module

    def players(self) -> dict[str, nn.Module]:
        """See `Segmenter.players`."""
        return {"network": self.network}

    @property
    def stochastic(self) -> bool:
        """Never."""
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
        network: `[B, C, *S] -> [B, K, *S]` logits. In training it may give several (deep supervision), the final one first.
        classes: K.
        loss: Dice and cross-entropy if not given.
        decay: weight of each further output in units of the one before it; the weights add up to 1.
        alike: whether every step does the same operations, see `Segmenter.kind`.
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
        self.network, self.classes, self.loss, self.decay, self.alike = network, classes, loss, decay, alike

    def kind(self, step: int) -> Hashable:
        """See `Segmenter.kind`: one for all steps."""
        return "alike" if self.alike else None

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """The loss of every output; see `Segmenter.turns`."""
        truth = one_hot(batch.label, self.classes)
        outputs = self._outputs(batch.image)
        weights = [self.decay**i for i in range(len(outputs))]
        terms: dict[str, Tensor] = {}
        for weight, logits in zip(weights, outputs, strict=True):
            for name, value in self.loss(logits, truth).items():
                terms[name] = terms.get(name, 0) + weight / sum(weights) * value
        yield turn("network", terms)

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`; there is one vote."""
        return self._outputs(image)[0].softmax(dim=1)[None]

    def _outputs(self, image: Tensor) -> list[Tensor]:
        output = self.network(image)
        outputs = list(output) if isinstance(output, (list, tuple)) else [output]
        expected = (len(image), self.classes, *image.shape[2:])
        for logits in outputs:
            if not isinstance(logits, Tensor) or logits.shape != expected:
                came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise UserError(
                    f"the network {type(self.network).__name__} must give logits of shape {expected} (batch, classes, space) for "
                    f"an image of shape {tuple(image.shape)}; it gave {came}."
                )
        return [logits.float() for logits in outputs]


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


def parameters(segmenter: Segmenter) -> int:
    """Numbers that were learned, of the network that predicts."""
    return sum(weight.numel() for weight in segmenter.players()[segmenter.predictor].parameters())
