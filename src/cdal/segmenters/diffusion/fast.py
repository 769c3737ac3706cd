"""The fast generator (ours): a U-Net over the image, run once, and a light denoiser at a quarter of the resolution.

The cost of an ensemble of V votes over T steps is one U-Net and V x T denoisers. On a CPU a layer with few channels at full
resolution costs memory traffic, not arithmetic; so the denoiser sees the label in space-to-depth form and has no layer at full
resolution. It predicts x_0 as a residual on the U-Net's own coarse logits.
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
from cdal.segmenters.diffusion.generator import Features, Generator
from cdal.segmenters.segmenter import Supervised

_LEVEL = 2
"""The U-Net's level with the denoiser's resolution: 2 ** _LEVEL == FOLD."""


class ImageBlock(nn.Module):
    """Two convolutions with instance normalisation, added to the input, `[B, Cin, *S] -> [B, Cout, *S / stride]`.

    The input's way past the block is a 1-wide convolution where the shapes differ.
    """

    def __init__(self, spatial_dims: int, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(spatial_dims, channels_in, channels_out, 3, stride, bias=False)
        self.norm1 = instance_norm(channels_out)
        self.conv2 = convolution(spatial_dims, channels_out, channels_out, 3, bias=False)
        self.norm2 = instance_norm(channels_out)
        same = channels_in == channels_out and stride == 1
        self.bypass = nn.Identity() if same else convolution(spatial_dims, channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        h = leaky_relu(self.norm1(self.conv1(x)))
        return leaky_relu(self.norm2(self.conv2(h)) + self.bypass(x))


class ImageUNet(nn.Module):
    """A residual U-Net over the image alone.

    Args:
        spatial_dims: 2 or 3.
        image_channels: C.
        out_channels: L.
        channels: features at each level, at least 3; each level after the first halves the resolution.
    """

    def __init__(self, spatial_dims: int, image_channels: int, out_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        inputs = [image_channels, *channels[:-1]]
        self.down = nn.ModuleList(
            ImageBlock(spatial_dims, channels_in, channels_out, 1 if level == 0 else 2)
            for level, (channels_in, channels_out) in enumerate(zip(inputs, channels, strict=True))
        )
        levels = list(reversed(range(len(channels) - 1)))
        self.grow = nn.ModuleList(transposed_convolution(spatial_dims, channels[level + 1], channels[level]) for level in levels)
        self.up = nn.ModuleList(ImageBlock(spatial_dims, 2 * channels[level], channels[level]) for level in levels)
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
        for level, grow, block in zip(reversed(range(len(self.up))), self.grow, self.up, strict=True):
            h = block(torch.cat([grow(h), skips[level]], dim=1))
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
        self.condition = convolution(spatial_dims, channels[_LEVEL] + self.folded, denoiser_channels, 1)
        self.modulation = Modulation(latent, embedding)
        self.stem = convolution(spatial_dims, self.folded, denoiser_channels, 1, bias=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(spatial_dims, denoiser_channels, denoiser_channels, embedding, activation=leaky_relu)
            for _ in range(denoiser_blocks)
        )
        self.norm = group_norm(denoiser_channels)
        self.head = zeroed(convolution(spatial_dims, denoiser_channels, self.folded, 1))

    def encode(self, image: Tensor) -> Features:
        """See `Generator.encode`; the coarse logits are those of the U-Net."""
        logits, middle = self.unet.logits_and_features(image)
        coarse = self.fold(logits).float()
        opinion = self._to_x0(coarse.detach())
        condition = self.condition(torch.cat([middle, opinion.to(middle.dtype)], dim=1))
        if coarse.dim() == 4 and condition.is_contiguous(memory_format=torch.channels_last):
            # It is added to every vote at every step, which takes longer in another order of memory.
            coarse = coarse.contiguous(memory_format=torch.channels_last)
        return Features(condition, coarse)

    def see(self, x: Tensor) -> Tensor:
        """The denoiser's features of a label, `[N, L * 4^n, *S / 4] -> [N, C, *S / 4]`."""
        return self.stem(x)

    def noise_root(self) -> Tensor:
        """R with R R' = W W', W being the stem: R n is distributed as W eps, and n has fewer numbers than eps."""
        weight = self.stem.weight.detach().flatten(1).double()
        if self.noise_channels == self.folded:
            return weight.float()
        # The small number keeps the factor defined where W has not its full rank.
        square = weight @ weight.T + 1e-12 * torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        return torch.linalg.cholesky(square).float()

    def denoise_seen(self, seen: Tensor, embedding: Tensor, features: Features) -> Tensor:
        """See `Generator.denoise_seen`."""
        images = features.condition.shape[0]
        h = (seen.unflatten(0, (-1, images)) + features.condition).flatten(0, 1)
        for block in self.blocks:
            h = block(h, embedding)
        residual = self.head(leaky_relu(self.norm(h)))
        assert features.coarse is not None  # encode always makes them
        return self._to_x0((residual.unflatten(0, (-1, images)) + features.coarse).flatten(0, 1))

    def _to_x0(self, folded: Tensor) -> Tensor:
        """`to_x0` of folded logits, whose channels are each label's pixels one label after the other."""
        return to_x0(folded.unflatten(1, (self.labels, -1))).flatten(1, 2)


def to_x0(logits: Tensor) -> Tensor:
    """Logits `[B, L, *S]` as a label in [-1, 1]: 2 sigmoid - 1 for one channel, 2 softmax - 1 for several."""
    return (2 * (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1))).sub_(1)


def build(settings: ImageUNetSettings, data: DataSettings, image_channels: int, classes: int, training: bool) -> Supervised:
    """The image network alone, see `cdal.segmenters.build`."""
    return Supervised(ImageUNet(data.spatial_dims, image_channels, classes, settings.channels), classes)
