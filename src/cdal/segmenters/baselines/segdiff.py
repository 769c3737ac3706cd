"""SegDiff: a diffusion model of masks with a hundred steps.

Amit, Shaharbany, Nachmani, Wolf: "SegDiff: image segmentation with diffusion probabilistic models",
arXiv:2112.00390, 2021. An encoder of residual-in-residual dense blocks (RRDB, Wang et al., ESRGAN,
2018) gets the image, and a stem gets the noisy mask. The sum of their features goes through the
U-Net of improved DDPM (Nichol & Dhariwal, ICML 2021), which predicts the noise. The schedule is
linear with T = 100, the moving average has a decay of 0.9999, and several masks are averaged. The
authors' network has 132 to 164 M parameters, depending on the number of residual blocks. Ours has
two residual blocks per level.

Also ours:
- The U-Net is MONAI's DiffusionModelUNet. Its embedding of the timestep is an added shift; improved
  DDPM scales as well.
- The image is encoded once for all steps and masks.
- Sampling can use fewer steps (the respacing of improved DDPM).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.baselines import SegDiffSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.diffusion.labels import label_channels, to_probabilities
from cdal.segmenters.diffusion.schedule import Schedule, at, diffuse, sample_posterior
from cdal.segmenters.draws import randint, randn
from cdal.segmenters.segmenter import Drawing, Segmenter, Turn, one_hot, turn


def build(
    settings: SegDiffSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    return SegDiff(
        Denoiser(settings, data, image_channels, 1 if classes == 2 else classes), classes, settings
    )


class SegDiff(Drawing):
    """A model that learns to predict the noise in a mask, and draws masks by removing it in steps.

    Args:
        network: network epsilon_theta.
        classes: K, the number of classes. Two classes share one label channel; more have one each.
        settings: settings with the numbers of steps.
    """

    network: Denoiser

    def __init__(self, network: Denoiser, classes: int, settings: SegDiffSettings) -> None:
        super().__init__()
        self.network, self.classes, self.settings = network, classes, settings

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """See `Segmenter.turns`. The loss is the squared error of the noise (the paper's Eq. 7)."""
        schedule = linear_schedule(self.settings.timesteps, batch.image.device)
        x0 = label_channels(one_hot(batch.label, self.classes))
        t = randint(1, schedule.timesteps + 1, len(x0), rng, x0)
        noise = randn(x0.shape, rng, x0)
        guess = self.network.noise(
            diffuse(schedule, x0, t, noise), t, self.network.encode(batch.image)
        ).float()
        yield turn("network", {"noise": F.mse_loss(guess, noise)})

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """See `Segmenter.sample`. The image is encoded once."""
        schedule, original = respaced(
            self.settings.timesteps, self.settings.sampling_timesteps, image.device
        )
        features = self.network.encode(image)
        features = features.repeat(votes, *[1] * (features.dim() - 1))
        channels = 1 if self.classes == 2 else self.classes
        x_t = randn((votes * len(image), channels, *image.shape[2:]), rng, image)
        x0 = x_t
        for step in range(schedule.timesteps, 0, -1):
            t = torch.full((len(x_t),), step, device=image.device)
            noise = self.network.noise(x_t, original[t], features).float()
            alpha_bar = at(schedule.alpha_bar, t, x_t)
            x0 = ((x_t - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()).clamp(-1, 1)
            if step > 1:
                x_t = sample_posterior(schedule, x0, x_t, t, randn(x_t.shape, rng, x_t))
        return to_probabilities(x0).unflatten(0, (votes, len(image)))


class Denoiser(nn.Module):
    """The image encoder, the stem for the noisy mask, and the U-Net.

    Args:
        settings: settings with the sizes of the networks.
        data: data settings of the recipe. Their size determines the levels and the attention.
        image_channels: C, the number of image channels.
        label_channels: L, the number of label channels.
    """

    def __init__(
        self,
        settings: SegDiffSettings,
        data: DataSettings,
        image_channels: int,
        label_channels: int,
    ) -> None:
        super().__init__()
        features, levels = settings.features, settings.levels(data)
        self.encoder = RRDBNet(
            image_channels,
            features,
            settings.encoder_features,
            settings.growth,
            settings.encoder_blocks,
        )
        self.stem = nn.Conv2d(label_channels, features, 3, padding=1)
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=features,
            out_channels=label_channels,
            num_res_blocks=settings.residual_blocks,
            channels=[features * multiplier for multiplier in levels],
            attention_levels=[min(data.size) / 2**level <= 16 for level in range(len(levels))],
            num_head_channels=features // 2,
            norm_num_groups=32,
            resblock_updown=True,
        )

    def encode(self, image: Tensor) -> Tensor:
        """Compute the features of the image alone, `[B, C, H, W] -> [B, features, H, W]`."""
        features: Tensor = self.encoder(image)
        return features

    def noise(self, x_t: Tensor, t: Tensor, features: Tensor) -> Tensor:
        """Predict the noise in `x_t` `[B, L, H, W]` at steps `t` `[B]`, from 1 to T."""
        guess: Tensor = self.unet(self.stem(x_t) + features, t)
        return guess


class RRDBNet(nn.Module):
    """The image encoder: a convolution, RRDBs with a residual connection, and a convolution.

    Shapes: `[B, C, H, W] -> [B, channels_out, H, W]`.
    """

    def __init__(
        self, image_channels: int, channels_out: int, features: int, growth: int, blocks: int
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(image_channels, features, 3, padding=1)
        self.blocks = nn.Sequential(*[RRDB(features, growth) for _ in range(blocks)])
        self.trunk = nn.Conv2d(features, features, 3, padding=1)
        self.last = nn.Conv2d(features, channels_out, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Encode the image."""
        first = self.first(image)
        out: Tensor = self.last(first + self.trunk(self.blocks(first)))
        return out


class RRDB(nn.Module):
    """A residual-in-residual dense block (Wang et al., ESRGAN, 2018).

    The output of each of three dense blocks is scaled by 0.2 and added to the block's input. The
    result is again scaled by 0.2 and added to the input of the whole.
    """

    SCALE = 0.2

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(DenseBlock(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `[B, features, H, W]`; the shape stays the same."""
        h = x
        for block in self.dense:
            h = h + self.SCALE * block(h)
        return x + self.SCALE * h


class DenseBlock(nn.Module):
    """Five 3 x 3 convolutions. Each sees the input and the outputs of all before it."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(features + i * growth, growth if i < 4 else features, 3, padding=1)
            for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `[B, features, H, W]`; the shape stays the same."""
        seen = [x]
        for convolution in self.convolutions[:-1]:
            seen.append(F.leaky_relu(convolution(torch.cat(seen, dim=1)), 0.2))
        out: Tensor = self.convolutions[-1](torch.cat(seen, dim=1))
        return out


@functools.cache
def linear_schedule(timesteps: int, device: torch.device | str = "cpu") -> Schedule:
    """The linear schedule of DDPM, scaled to T steps (Nichol & Dhariwal, ICML 2021).

    DDPM's beta goes from 1e-4 to 0.02 over 1000 steps.
    """
    return _schedule(_linear_beta(timesteps), device)


@functools.cache
def respaced(
    timesteps: int, steps: int, device: torch.device | str = "cpu"
) -> tuple[Schedule, Tensor]:
    """The schedule with every (T / steps)-th noise level of T.

    Returns:
        The schedule, and the original step, from 0 to T, of each of its steps.
    """
    original = torch.arange(0, timesteps + 1, timesteps // steps)
    alpha_bar = _alpha_bar(_linear_beta(timesteps))[original]
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), 1 - alpha_bar[1:] / alpha_bar[:-1]])
    return _schedule(beta, device), original.to(device)


def _linear_beta(timesteps: int) -> Tensor:
    """beta_0 = 0 and the beta of the T noise levels, in float64."""
    scale = 1000 / timesteps
    rise = torch.linspace(scale * 1e-4, min(scale * 0.02, 0.999), timesteps, dtype=torch.float64)
    return torch.cat([torch.zeros(1, dtype=torch.float64), rise])


def _alpha_bar(beta: Tensor) -> Tensor:
    return (1 - beta).cumprod(dim=0)


def _schedule(beta: Tensor, device: torch.device | str) -> Schedule:
    return Schedule(*(table.float().to(device) for table in (beta, 1 - beta, _alpha_bar(beta))))
