"""The fast generator (ours): a U-Net on the image, and a light denoiser at low resolution.

An ensemble of V votes over T steps costs one pass of the U-Net and V x T passes of the denoiser. On
a CPU, memory traffic and not arithmetic limits a layer with few channels at full resolution. The
denoiser therefore sees the label in space-to-depth form, at a quarter of the resolution, and has no
layer at full resolution. It predicts x_0 as a residual to the coarse logits of the U-Net.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cdal.recipes.cdal import FOLD, ImageUNetSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.diffusion.blocks import (
    Modulation,
    ResidualBlock,
    convolution,
    group_norm,
    instance_norm,
    leaky_relu,
    transposed_convolution,
    zeroed,
)
from cdal.segmenters.diffusion.certainty import less_certain
from cdal.segmenters.diffusion.generator import Features, Generator
from cdal.segmenters.segmenter import Supervised

_LEVEL = 2
"""Level of the U-Net at the resolution of the denoiser: 2 ** _LEVEL == FOLD."""


class ImageBlock(nn.Module):
    """Two convolutions with instance normalisation and a bypass.

    Shapes: `[B, Cin, *S] -> [B, Cout, *S / stride]`. The bypass is a 1-wide convolution if the
    shapes differ.
    """

    def __init__(
        self, spatial_dims: int, channels_in: int, channels_out: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = convolution(spatial_dims, channels_in, channels_out, 3, stride, bias=False)
        self.norm1 = instance_norm(channels_out)
        self.conv2 = convolution(spatial_dims, channels_out, channels_out, 3, bias=False)
        self.norm2 = instance_norm(channels_out)
        same = channels_in == channels_out and stride == 1
        self.bypass = (
            nn.Identity()
            if same
            else convolution(spatial_dims, channels_in, channels_out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        h = leaky_relu(self.norm1(self.conv1(x)))
        return leaky_relu(self.norm2(self.conv2(h)) + self.bypass(x))


class ImageUNet(nn.Module):
    """A residual U-Net on the image alone.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C, the number of image channels.
        out_channels: L, the number of output channels.
        channels: number of features at each of at least 3 levels. Each level after the first halves
            the resolution.
    """

    def __init__(
        self, spatial_dims: int, image_channels: int, out_channels: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        inputs = [image_channels, *channels[:-1]]
        self.down = nn.ModuleList(
            ImageBlock(spatial_dims, channels_in, channels_out, 1 if level == 0 else 2)
            for level, (channels_in, channels_out) in enumerate(zip(inputs, channels, strict=True))
        )
        levels = list(reversed(range(len(channels) - 1)))
        self.grow = nn.ModuleList(
            transposed_convolution(spatial_dims, channels[level + 1], channels[level])
            for level in levels
        )
        self.up = nn.ModuleList(
            ImageBlock(spatial_dims, 2 * channels[level], channels[level]) for level in levels
        )
        self.head = convolution(spatial_dims, channels[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits `[B, L, *S]`."""
        return self.logits_and_features(image)[0]

    def logits_and_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits and the decoder's features at a quarter of the resolution.

        Returns:
            Logits `[B, L, *S]` and features `[B, channels[2], *S / 4]`.
        """
        skips = []
        h = image
        for block in self.down:
            h = block(h)
            skips.append(h)
        middle = h
        for level, grow, block in zip(
            reversed(range(len(self.up))), self.grow, self.up, strict=True
        ):
            h = block(torch.cat([grow(h), skips[level]], dim=1))
            middle = h if level == _LEVEL else middle
        return self.head(h), middle


class FastGenerator(Generator):
    """A generator that encodes with an `ImageUNet` and denoises at a quarter of the resolution.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C, the number of image channels.
        label_channels: L, the number of label channels: 1 or the number of classes.
        channels: number of features at each level of the U-Net, which has at least 3 levels.
        denoiser_channels: number of features of the denoiser.
        denoiser_blocks: number of residual blocks of the denoiser.
        latent: length of z; 0 leaves z out.
        embedding: length of the embedding of z and t.
    """

    folding = FOLD
    bounded = True

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
        self.labels, self.folded = label_channels, label_channels * FOLD**spatial_dims
        self.noise_channels = min(self.folded, denoiser_channels)
        self.unet = ImageUNet(spatial_dims, image_channels, label_channels, channels)
        self.condition = convolution(
            spatial_dims, channels[_LEVEL] + self.folded, denoiser_channels, 1
        )
        self.modulation = Modulation(latent, embedding)
        self.stem = convolution(spatial_dims, self.folded, denoiser_channels, 1, bias=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                spatial_dims, denoiser_channels, denoiser_channels, embedding, activation=leaky_relu
            )
            for _ in range(denoiser_blocks)
        )
        self.norm = group_norm(denoiser_channels)
        self.head = zeroed(convolution(spatial_dims, denoiser_channels, self.folded, 1))

    def encode(self, image: Tensor) -> Features:
        """See `Generator.encode`; the coarse logits are the output of the U-Net."""
        logits, middle = self.unet.logits_and_features(image)
        coarse = self.fold(logits).float()
        coarse_x0 = self._to_x0(coarse.detach())
        condition = self.condition(torch.cat([middle, coarse_x0.to(middle.dtype)], dim=1))
        if coarse.dim() == 4 and condition.is_contiguous(memory_format=torch.channels_last):
            # The logits are added to every vote at every step, which is slower if the memory
            # formats differ.
            coarse = coarse.contiguous(memory_format=torch.channels_last)
        return Features(condition, coarse)

    def see(self, x: Tensor) -> Tensor:
        """Map a label to features of the denoiser, `[N, L * 4^n, *S / 4] -> [N, C, *S / 4]`."""
        return self.stem(x)

    def noise_root(self) -> Tensor:
        """R with R R' = W W', where W is the weight of the stem.

        R n has the distribution of W eps, and n has fewer numbers than eps.
        """
        weight = self.stem.weight.detach().flatten(1).double()
        if self.noise_channels == self.folded:
            return weight.float()
        # The small constant keeps the Cholesky factor defined if W does not have full rank.
        square = weight @ weight.T + 1e-12 * torch.eye(
            len(weight), dtype=weight.dtype, device=weight.device
        )
        return torch.linalg.cholesky(square).float()

    def denoise_seen(self, seen: Tensor, embedding: Tensor, features: Features) -> Tensor:
        """See `Generator.denoise_seen`."""
        images = features.condition.shape[0]
        h = (seen.unflatten(0, (-1, images)) + features.condition).flatten(0, 1)
        for block in self.blocks:
            h = block(h, embedding)
        residual = self.head(leaky_relu(self.norm(h)))
        assert features.coarse is not None  # `encode` always computes it
        return self._to_x0((residual.unflatten(0, (-1, images)) + features.coarse).flatten(0, 1))

    def _to_x0(self, folded: Tensor) -> Tensor:
        """`to_x0` of folded logits. Their channels are the pixels of one label after the other."""
        logits = folded.unflatten(1, (self.labels, -1))
        return to_x0(less_certain(logits) if self.training else logits).flatten(1, 2)


def to_x0(logits: Tensor) -> Tensor:
    """Convert logits `[B, L, *S]` to a label in [-1, 1].

    This is 2 sigmoid - 1 for one channel and 2 softmax - 1 for several.
    """
    return (2 * (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1))).sub_(1)


def build(
    settings: ImageUNetSettings,
    data: DataSettings,
    image_channels: int,
    classes: int,
    training: bool,
) -> Supervised:
    """Build the image network alone, see `cdal.segmenters.build`."""
    return Supervised(
        ImageUNet(data.spatial_dims, image_channels, classes, settings.channels), classes
    )
