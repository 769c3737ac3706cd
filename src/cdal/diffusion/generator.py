"""What every generator is: `encode` once an image, `denoise` once a timestep and vote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Features(NamedTuple):
    """What `encode` found in B images.

    Attributes:
        condition: `[B, C, *S / r]`, the features on which `denoise` leans, at a resolution r of the generator's choice.
        coarse: `[B, L, *S]`, logits of a segmentation from the image alone; none where the generator makes none.
    """

    condition: Tensor
    coarse: Tensor | None = None

    def detach(self) -> Features:
        """The same numbers, through which no gradient flows."""
        return Features(self.condition.detach(), None if self.coarse is None else self.coarse.detach())


class Generator(nn.Module, ABC):
    """x_theta(x_t, t, z, I) of the paper, in the two parts that cost differently.

    Votes are folded into the batch: `denoise` takes `x_t` of V x B samples, vote after vote, beside the features of B images.
    """

    @abstractmethod
    def encode(self, image: Tensor) -> Features:
        """Features of the images `[B, C, *S]`: all that does not depend on x_t, t and z."""

    @abstractmethod
    def denoise(self, x_t: Tensor, level: Tensor, z: Tensor, features: Features) -> Tensor:
        """The clean label x_0 behind the noisy one.

        Args:
            x_t: `[V * B, L, *S]`.
            level: `[V * B]`, s = t / T in (0, 1].
            z: `[V * B, latent]`.
            features: of the B images.

        Returns:
            x_0 `[V * B, L, *S]`, where -1 is "not this class" and +1 is "this class".
        """
