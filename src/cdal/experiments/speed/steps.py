"""Training steps of a recipe on a batch of noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cdal.datasets.batch import Batch
from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import repeatable
from cdal.segmenters.build import build_segmenter
from cdal.training.devices import make_fabric
from cdal.training.optimisers import make_optimiser
from cdal.training.steps import RecordedSteps, Steps

_WARM_UPS = 5
"""Rounds after which every kind of step is recorded."""


class NoiseTraining:
    """What a training has, with random weights and a batch of noise.

    Args:
        recipe: recipe to train.
        channels: channels of an image.
        classes: K, the number of classes.
        device: device to train on.

    Attributes:
        segmenter: the segmenter.
        every: steps of a round, in which each player has its turn.
    """

    def __init__(self, recipe: Recipe, channels: int, classes: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.segmenter = build_segmenter(recipe, channels, classes, training=True).to(device)
        self.every = int(getattr(recipe.segmenter, "discriminator_every", 1))
        self._optimisers = {
            name: make_optimiser(player, recipe.training, name == self.segmenter.predictor, device)
            for name, player in self.segmenter.players().items()
        }
        self._clip, self._device = recipe.training.clip, device
        self._fabric = make_fabric(recipe, device.type)
        self._batch = _noise(recipe, channels, classes, device)

    def rounds(self, recorded: bool = False, exact: bool = True) -> Callable[[], None]:
        """A function that takes the steps of one round.

        Args:
            recorded: whether the steps are recorded as CUDA graphs, which is done before.
            exact: whether the results are repeatable, as those of a training are.
        """
        kind = RecordedSteps if recorded else Steps
        steps = kind(self.segmenter, self._optimisers, self._clip, self._fabric)

        def call() -> None:
            with (
                repeatable(self._device, gradients=True)
                if exact
                else torch.backends.cudnn.flags(enabled=True)
            ):
                # From step 1, so that the gradient penalty, which is rare, is not counted.
                for step in range(1, 1 + self.every):
                    steps(self._batch, (0, "turns", step), step)

        for _ in range(_WARM_UPS if recorded else 0):
            call()
        return call


def _noise(recipe: Recipe, channels: int, classes: int, device: torch.device) -> Batch:
    """Noise, with the shapes of the recipe's batches."""
    rng, data, training = np.random.default_rng(0), recipe.data, recipe.training
    shape = (training.batch, data.network_channels(channels), *data.size)
    image = torch.from_numpy(rng.normal(size=shape).astype(np.float32)).to(device)
    labels = rng.integers(classes, size=(training.annotators, training.batch, *data.size))
    drawn = torch.from_numpy(labels.astype(np.uint8)).to(device)
    return Batch(
        image, drawn[0], ("noise",) * training.batch, drawn[1:] if len(drawn) > 1 else None
    )
