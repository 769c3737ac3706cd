"""A segmenter whose answer is known, and weights that all count."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.model_header import ModelHeader
from cdal.segmenters.segmenter import Segmenter, Turn


class Brightness(Segmenter):
    """P(class 1) = sigmoid(middle channel); remembers what it was shown. As a stochastic one, vote
    v adds v to the logit.
    """

    predictor = "network"

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []
        self._stochastic = stochastic

    def players(self) -> dict[str, nn.Module]:
        return {"network": self}

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        raise NotImplementedError

    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        self.shapes.append((votes, *image.shape))
        logit = image[:, image.shape[1] // 2]
        drawn = torch.stack(
            [
                logit + (v if self._stochastic else 0)
                for v in range(votes if self._stochastic else 1)
            ]
        )
        return torch.stack([1 - drawn.sigmoid(), drawn.sigmoid()], dim=2)

    @property
    def stochastic(self) -> bool:
        return self._stochastic


def bright_predictor(
    data: DataSettings, classes: tuple[str, ...] = ("background", "ball")
) -> Predictor:
    """A predictor of one channel that finds what is brighter than the mean."""
    recipe = Recipe("bright", data, ImageUNetSettings(channels=(4, 8, 8)))
    header = ModelHeader(recipe, classes, 1)
    return Predictor(
        TorchEngine(Brightness().eval(), recipe), header, recipe, Sampling(), name="bright"
    )


def shake(module: torch.nn.Module) -> None:
    """Give every parameter a value, the zeroed ones too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
