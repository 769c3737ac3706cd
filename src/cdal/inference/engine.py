"""The interface of whatever computes a segmenter."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """What computes a segmenter: PyTorch, the runtime of an exported graph, or several of them.

    Attributes:
        stochastic: whether two votes on one image can differ.
        parameters: number of learned weights of the network that predicts.
    """

    stochastic: bool
    parameters: int

    def about(self) -> dict[str, Any]:
        """Where and how it computes: `device`, `precision`, `threads`."""
        ...

    def generator(self, seed: int, /, *keys: int | str) -> Any:
        """The random generator that belongs to a seed and further keys, such as a case."""
        ...

    def sample(self, image: np.ndarray, votes: int, rng: Any) -> np.ndarray:
        """Draw votes, `[B, C, *S] -> [V, B, K, *S]`; see `cdal.Segmenter.sample`."""
        ...
