"""The random inputs of a segmenter that is computed as a graph. Nothing here needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomInputs:
    """What chance decides when votes are drawn on one image, as inputs of a graph: noise, and the latent z.

    Attributes:
        timesteps: T; 0 if chance has no part and the image is the only input.
        noise_channels: N.
        folding: f: the noise is `[T, V, N, *S / f]`, standard normal.
        latent: z is `[T, V, latent]`.
        z: `drawn`: standard normal; `constant`: ones.
    """

    timesteps: int = 0
    noise_channels: int = 0
    folding: int = 1
    latent: int = 0
    z: str = "drawn"

    def draw(self, size: Sequence[int], votes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Noise and z by name, for V votes on an image of this size; nothing if chance has no part.

        Each vote's numbers do not depend on how many votes there are.
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
