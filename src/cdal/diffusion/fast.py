"""The fast generator (ours): a U-Net over the image, run once, and a light denoiser at a quarter of the resolution.

The cost of an ensemble of V votes over T steps is one U-Net and V x T denoisers. On a CPU a layer with few channels at full
resolution costs memory traffic, not arithmetic; so the denoiser sees the label in space-to-depth form and has no layer at full
resolution. It predicts x_0 as a residual on the U-Net's own coarse logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock, UnetUpBlock
from torch import Tensor, nn

from cdal.diffusion.blocks import (
    Modulation,
    ResidualBlock,
    convolution,
    depth_to_space,
    group_norm,
    space_to_depth,
    zeroed,
)
from cdal.diffusion.generator import Features, Generator

FOLD = 4
"""Pixels along each axis that the denoiser sees as channels of one position."""

_LEVEL = 2
"""The U-Net's level with the denoiser's resolution: 2 ** _LEVEL == FOLD."""


class ImageUNet(nn.Module):
    """A U-Net of MONAI's residual blocks over the image alone.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C.
        out_channels: L.
        channels: features at each level; each level after the first halves the resolution.
    """

    def __init__(self, spatial_dims: int, image_channels: int, out_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        norm = ("INSTANCE", {"affine": True})
        inputs = [image_channels, *channels[:-1]]
        self.down = nn.ModuleList(
            UnetResBlock(spatial_dims, channels_in, channels_out, 3, 1 if level == 0 else 2, norm)
            for level, (channels_in, channels_out) in enumerate(zip(inputs, channels, strict=True))
        )
        self.up = nn.ModuleList(
            UnetUpBlock(spatial_dims, channels[level + 1], channels[level], 3, 2, 2, norm)
            for level in reversed(range(len(channels) - 1))
        )
        self.head = convolution(spatial_dims, channels[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """The logits `[B, L, *S]`."""
        return self.logits_and_features(image)[0]

    def logits_and_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The logits `[B, L, *S]` and the decoder's features at a quarter of the resolution, `[B, channels[2], *S / 4]`."""
        skips = []
        h = image
        for block in self.down:
            h = block(h)
            skips.append(h)
        middle = h
        for level, block in zip(reversed(range(len(self.up))), self.up, strict=True):
            h = block(h, skips[level])
            middle = h if level == _LEVEL else middle
        return self.head(h), middle


class FastGenerator(Generator):
    """Encode with an `ImageUNet`; denoise at a quarter of the resolution.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C.
        label_channels: L, 1 or the number of classes.
        channels: of the U-Net, at least 3 levels.
        denoiser_channels: features of the denoiser.
        denoiser_blocks: its residual blocks.
        latent: length of z; 0 for none.
        embedding: length of the embedding of z and t.
    """

    def __init__(
        self,
        spatial_dims: int,
        image_channels: int,
        label_channels: int,
        channels: Sequence[int],
        denoiser_channels: int,
        denoiser_blocks: int,
        latent: int,
        embedding: int,
    ) -> None:
        super().__init__()
        folded = label_channels * FOLD**spatial_dims
        self.unet = ImageUNet(spatial_dims, image_channels, label_channels, channels)
        self.condition = convolution(spatial_dims, channels[_LEVEL] + folded, denoiser_channels, 1)
        self.modulation = Modulation(latent, embedding)
        self.stem = convolution(spatial_dims, folded, denoiser_channels, 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(spatial_dims, denoiser_channels, denoiser_channels, embedding) for _ in range(denoiser_blocks)
        )
        self.norm = group_norm(denoiser_channels)
        self.head = zeroed(convolution(spatial_dims, denoiser_channels, folded, 1))

    def encode(self, image: Tensor) -> Features:
        """See `Generator.encode`; the coarse logits are those of the U-Net."""
        coarse, middle = self.unet.logits_and_features(image)
        opinion = space_to_depth(to_x0(coarse.detach()), FOLD)
        return Features(self.condition(torch.cat([middle, opinion.to(middle.dtype)], dim=1)), coarse)

    def denoise(self, x_t: Tensor, level: Tensor, z: Tensor, features: Features) -> Tensor:
        """See `Generator.denoise`."""
        images = features.condition.shape[0]
        votes = x_t.shape[0] // images
        embedding = self.modulation(level, z)
        h = self.stem(space_to_depth(x_t, FOLD)).unflatten(0, (votes, images)) + features.condition
        h = h.flatten(0, 1)
        for block in self.blocks:
            h = block(h, embedding)
        residual = depth_to_space(self.head(F.silu(self.norm(h))), FOLD).unflatten(0, (votes, images))
        assert features.coarse is not None  # encode always makes them
        return to_x0((residual.float() + features.coarse.float()).flatten(0, 1))


def to_x0(logits: Tensor) -> Tensor:
    """Logits `[B, L, *S]` as a label in [-1, 1]: 2 sigmoid - 1 for one channel, 2 softmax - 1 for several."""
    return torch.tanh(logits / 2) if logits.shape[1] == 1 else 2 * logits.softmax(dim=1) - 1
