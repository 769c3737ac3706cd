"""An engine that can be stopped between two calls, as an image may need many of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cdal.inference.engine import Engine
from cdal.inference.ensemble_engine import EnsembleEngine
from cdal.inference.predictor import Predictor


class Stoppable:
    """An engine behind `cdal.inference.engine.Engine` that asks before it computes.

    Args:
        engine: the engine.
        check: called before each computation; its exception ends the prediction.
    """

    def __init__(self, engine: Engine, check: Callable[[], object]) -> None:
        self._engine, self._check = engine, check
        self.stochastic, self.parameters = engine.stochastic, engine.parameters
        self.draws_apart, self.at_once = engine.draws_apart, engine.at_once

    def about(self) -> dict[str, Any]:
        """See `Engine.about`."""
        return self._engine.about()

    def generator(self, seed: int, /, *keys: int | str) -> Any:
        """See `Engine.generator`."""
        return self._engine.generator(seed, *keys)

    def draw(self, size: Sequence[int], images: int, votes: int, rng: Any) -> list[Any]:
        """See `Engine.draw`."""
        return self._engine.draw(size, images, votes, rng)

    def sample(
        self, image: np.ndarray, votes: int, rng: Any, draws: Sequence[Any] | None = None
    ) -> np.ndarray:
        """See `Engine.sample`."""
        self._check()
        return self._engine.sample(image, votes, rng, draws)


def stoppable(predictor: Predictor, check: Callable[[], object]) -> Predictor:
    """The same predictor, which an exception of `check` ends."""
    own, engine = copy.copy(predictor), predictor.engine
    if isinstance(engine, EnsembleEngine):
        own.engine = EnsembleEngine([Stoppable(member, check) for member in engine.members])
    else:
        own.engine = Stoppable(engine, check)
    return own
