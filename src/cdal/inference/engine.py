"""The interface of whatever computes a segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """What computes a segmenter: PyTorch, the runtime of an exported graph, or several of them.

    Attributes:
        stochastic: whether two votes on one image can differ.
        parameters: number of learned weights of the network that predicts.
        draws_apart: whether `draw` is possible.
        at_once: batches of windows that are best computed together if their random numbers are
            drawn apart.
    """

    stochastic: bool
    parameters: int
    draws_apart: bool
    at_once: int

    def about(self) -> dict[str, Any]:
        """Where and how it computes: `device`, `precision`, `threads`."""
        ...

    def generator(self, seed: int, /, *keys: int | str) -> Any:
        """The random generator that belongs to a seed and further keys, such as a case."""
        ...

    def draw(self, size: Sequence[int], images: int, votes: int, rng: Any) -> list[Any]:
        """Draw the random numbers that `sample` would draw for images `[B, C, *size]`.

        Returns:
            The numbers of each image.
        """
        ...

    def sample(
        self, image: np.ndarray, votes: int, rng: Any, draws: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Draw votes, `[B, C, *S] -> [V, B, K, *S]`; see `cdal.Segmenter.sample`.

        With the numbers of `draw`, one item for each image, no others are drawn. The votes of an
        image then do not depend on the images beside it.
        """
        ...
