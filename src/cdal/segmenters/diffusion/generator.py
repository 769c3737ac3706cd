"""The interface of all generators.

`encode` runs once for each image, `denoise` once for each timestep and vote.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from cdal.segmenters.diffusion.blocks import Modulation, depth_to_space, space_to_depth


class Features(NamedTuple):
    """Features of B images, computed by `encode`.

    Attributes:
        condition: features `[B, C, *S / r]` that condition `denoise`. The generator chooses r.
        coarse: folded logits `[B, L * f^n, *S / f]` of a segmentation from the image alone; `None`
            if the generator does not compute one.
    """

    condition: Tensor
    coarse: Tensor | None = None

    def detach(self) -> Features:
        """The same features without gradient."""
        return Features(
            self.condition.detach(), None if self.coarse is None else self.coarse.detach()
        )


class Generator(nn.Module, ABC):
    """x_theta(x_t, t, z, I) of the paper, split into two parts of different cost.

    Votes are part of the batch: `denoise` takes V x B samples, vote after vote, and the features of
    B images.

    Labels are folded: blocks of f pixels along each axis become channels of one position (`fold`,
    `unfold`). All operations of the method are element-wise, so folding does not affect them.

    A generator may see x_t through a linear map (`see`). The posterior is linear, too, so sampling
    can run on mapped values: see(x_{t-1}) = a see(x_t) + b see(x_0) + c see(noise). Then only the
    mapped noise has to be drawn.

    Attributes:
        folding: f, the number of pixels along an axis that are folded into channels; 1 is no
            folding.
        noise_channels: number of random numbers per position in one draw of noise.
        bounded: whether (x_0 + 1) / 2 already lies in [0, 1] and sums to 1.
        modulation: network that embeds the noise level and z. The embedding modulates every block.
    """

    folding: int = 1
    noise_channels: int
    bounded: bool = False
    modulation: Modulation

    @abstractmethod
    def encode(self, image: Tensor) -> Features:
        """Compute the features of images `[B, C, *S]`, which do not depend on x_t, t and z."""

    @abstractmethod
    def denoise_seen(self, seen: Tensor, embedding: Tensor, features: Features) -> Tensor:
        """Predict the clean label x_0 from the mapped noisy one.

        Args:
            seen: `see` of x_t, `[V * B, C, *S / f]`.
            embedding: `modulation` of s = t / T in (0, 1] and z, `[V * B, E]`.
            features: features of the B images.

        Returns:
            x_0, folded, `[V * B, L * f^n, *S / f]`: -1 is "not this class", +1 is "this class".
        """

    def see(self, x: Tensor) -> Tensor:
        """Map a folded noisy label linearly to what the network sees; by default the identity."""
        return x

    def noise_root(self) -> Tensor | None:
        """R such that R n has the distribution of `see` of noise; `None` is the identity.

        n ~ N(0, I) has `noise_channels` numbers at each position.
        """
        return None

    def denoise(self, x_t: Tensor, level: Tensor, z: Tensor, features: Features) -> Tensor:
        """x_theta(x_t, t, z, I): `denoise_seen` with x_t, t and z as inputs.

        Args:
            x_t: noisy label, folded, `[V * B, L * f^n, *S / f]`.
            level: noise level s = t / T, `[V * B]`.
            z: latents `[V * B, latent]`.
            features: features of the B images.
        """
        return self.denoise_seen(self.see(x_t), self.modulation(level, z), features)

    def fold(self, x: Tensor) -> Tensor:
        """Fold pixels into channels, `[N, L, *S] -> [N, L * f^n, *S / f]`, label after label."""
        return space_to_depth(x, self.folding)

    def unfold(self, x: Tensor) -> Tensor:
        """The inverse of `fold`."""
        return depth_to_space(x, self.folding)
