"""Random inputs of a segmenter that runs as a graph. Nothing here needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST = 10_000
"""Largest number of timesteps, noise channels or numbers of z."""


@dataclass(frozen=True)
class RandomInputs:
    """Random inputs of a graph that draws V votes on one image: noise and the latent z.

    Attributes:
        timesteps: T, the number of timesteps; 0 if the image is the only input.
        noise_channels: N, the number of noise channels.
        folding: f, the folding factor. The noise is `[T, V, N, *S / f]`, standard normal.
        latent: length of z, which is `[T, V, latent]`.
        z: distribution of z: `drawn` is standard normal, `constant` is ones.

    Raises:
        ValueError: a value is impossible.
    """

    timesteps: int = 0
    noise_channels: int = 0
    folding: int = 1
    latent: int = 0
    z: str = "drawn"

    def __post_init__(self) -> None:
        for name in ("timesteps", "noise_channels", "folding", "latent"):
            number, least = getattr(self, name), 1 if name == "folding" else 0
            if type(number) is not int or not least <= number <= _MOST:
                raise ValueError(f"random.{name} must be {least} to {_MOST}; it is {number!r:.40}")
        if self.z not in ("drawn", "constant"):
            raise ValueError(f"random.z must be drawn or constant; it is {self.z!r:.40}")

    def draw(
        self, size: Sequence[int], votes: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draw noise and z by name, for V votes on an image of this size; empty if T is 0.

        The numbers of a vote do not depend on the number of votes.
        """
        if self.timesteps == 0:
            return {}
        shape = (self.timesteps, self.noise_channels, *(length // self.folding for length in size))
        noise, z = [], []
        for _ in range(votes):
            noise.append(rng.standard_normal(shape, np.float32))
            drawn = rng.standard_normal((self.timesteps, self.latent), np.float32)
            z.append(drawn if self.z == "drawn" else np.ones_like(drawn))
        return {"noise": np.stack(noise, axis=1), "z": np.stack(z, axis=1)}
