"""The random draws of cDAL for a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """All random draws for V votes on B images.

    Attributes:
        noise: standard normal noise `[T, V * B, N, *S / f]`. N and f are the generator's
            `noise_channels` and `folding`.
        z: latents `[T, V * B, latent]`.
    """

    noise: Tensor
    z: Tensor

    def by_image(self, images: int) -> list[Draws]:
        """The draws of each of B images."""
        parts = [x.unflatten(1, (-1, images)).unbind(dim=2) for x in self]
        return [Draws(*numbers) for numbers in zip(*parts, strict=True)]

    @staticmethod
    def of_images(draws: Sequence[Draws]) -> Draws:
        """The draws of a batch from those of its images; the inverse of `by_image`."""
        together = (torch.stack(x, dim=2).flatten(1, 2) for x in zip(*draws, strict=True))
        return Draws(*together)
