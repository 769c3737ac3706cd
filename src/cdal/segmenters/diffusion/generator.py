"""What every generator is: `encode` once an image, `denoise` once a timestep and vote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from cdal.segmenters.diffusion.blocks import Modulation, depth_to_space, space_to_depth


class Features(NamedTuple):
    """What `encode` found in B images.

    Attributes:
        condition: `[B, C, *S / r]`, the features on which `denoise` leans, at a resolution r of the generator's choice.
        coarse: folded logits `[B, L * f^n, *S / f]` of a segmentation from the image alone; none where the generator makes none.
    """

    condition: Tensor
    coarse: Tensor | None = None

    def detach(self) -> Features:
        """The same numbers, through which no gradient flows."""
        return Features(self.condition.detach(), None if self.coarse is None else self.coarse.detach())


class Generator(nn.Module, ABC):
    """x_theta(x_t, t, z, I) of the paper, in the two parts that cost differently.

    Votes are folded into the batch: `denoise` takes V x B samples, vote after vote, beside the features of B images.

    Labels are folded too: f pixels along each axis are channels of one position (`fold`, `unfold`); the method's arithmetic takes
    each number by itself and does not mind. And a generator may see x_t through a linear map (`see`). As the posterior is linear
    too, sampling can stay on the far side of the map, see(x_{t-1}) = a see(x_t) + b see(x_0) + c see(noise), and of the noise only
    what the map leaves has to be drawn.

    Attributes:
        folding: f, pixels along an axis that are folded into channels; 1 is no folding.
        noise_channels: numbers at each position of one draw of noise.
        bounded: whether x_0, as (x_0 + 1) / 2, is probabilities that add up to 1 without more ado.
        modulation: from the noise level and z to the embedding that modulates every block.
    """

    folding: int = 1
    noise_channels: int
    bounded: bool = False
    modulation: Modulation

    @abstractmethod
    def encode(self, image: Tensor) -> Features:
        """Features of the images `[B, C, *S]`: all that does not depend on x_t, t and z."""

    @abstractmethod
    def denoise_seen(self, seen: Tensor, embedding: Tensor, features: Features) -> Tensor:
        """The clean label x_0 behind the noisy one.

        Args:
            seen: what `see` gives of x_t, `[V * B, C, *S / f]`.
            embedding: what `modulation` gives of s = t / T in (0, 1] and z, `[V * B, E]`.
            features: of the B images.

        Returns:
            x_0, folded, `[V * B, L * f^n, *S / f]`, where -1 is "not this class" and +1 is "this class".
        """

    def see(self, x: Tensor) -> Tensor:
        """What the network sees of a folded noisy label: a linear map of it; of all of it, if not overridden."""
        return x

    def noise_root(self) -> Tensor | None:
        """R such that R n, n ~ N(0, I) of `noise_channels` numbers a position, is distributed as `see` of noise; none for 1."""
        return None

    def denoise(self, x_t: Tensor, level: Tensor, z: Tensor, features: Features) -> Tensor:
        """x_theta(x_t, t, z, I): `denoise_seen` from what chance and the step give.

        Args:
            x_t: folded, `[V * B, L * f^n, *S / f]`.
            level: `[V * B]`, s = t / T.
            z: `[V * B, latent]`.
            features: of the B images.
        """
        return self.denoise_seen(self.see(x_t), self.modulation(level, z), features)

    def fold(self, x: Tensor) -> Tensor:
        """`[N, L, *S] -> [N, L * f^n, *S / f]`, one label after the other."""
        return space_to_depth(x, self.folding)

    def unfold(self, x: Tensor) -> Tensor:
        """The inverse of `fold`."""
        return depth_to_space(x, self.folding)
