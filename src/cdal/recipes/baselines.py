"""Settings of the systems that cDAL is compared with, and of your own network.

A model file's header contains these settings. It can be read without PyTorch, so nothing here
imports PyTorch. The networks are in `cdal.segmenters.baselines`, one file for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cdal.recipes.settings import DataSettings, SegmenterSettings, need, need_channels

MEDT_GRID = 4
"""Number of patches along each axis in the local branch of MedT."""


@dataclass(frozen=True)
class UNetSettings(SegmenterSettings):
    """U-Net.

    Attributes:
        channels: features at the five levels.
    """

    name: str = "unet"
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """Four poolings."""
        return 16

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self, exactly=5)


@dataclass(frozen=True)
class UNet3DSettings(UNetSettings):
    """3D U-Net."""

    name: str = "unet-3d"
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)

    dims = (3,)


@dataclass(frozen=True)
class UNetPlusPlusSettings(SegmenterSettings):
    """U-Net++.

    Attributes:
        channels: features at the five levels.
    """

    name: str = "unetpp"
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """Four poolings."""
        return 16

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self, exactly=5)


@dataclass(frozen=True)
class MSUNetSettings(SegmenterSettings):
    """MSU-Net.

    Attributes:
        channels: features at each level.
        kernels: kernel sizes of the two sequences of convolutions.
    """

    name: str = "msu-net"
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    kernels: tuple[int, int] = (3, 7)

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """One pooling between two levels."""
        return 2 ** (len(self.channels) - 1)

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self)
        expected = "two odd numbers of 1 or more"
        need(
            self,
            "segmenter.kernels",
            lambda kernels: all(k >= 1 and k % 2 == 1 for k in kernels),
            expected,
        )


@dataclass(frozen=True)
class ResUNetSettings(SegmenterSettings):
    """Weighted Res-UNet.

    Attributes:
        channels: features at each level.
    """

    name: str = "res-unet"
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """One pooling between two levels."""
        return 2 ** (len(self.channels) - 1)

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self)


@dataclass(frozen=True)
class MedTSettings(SegmenterSettings):
    """MedT.

    Attributes:
        width: features inside the attention of the first stage; each further stage doubles them.
        heads: number of heads of each attention layer.
    """

    name: str = "medt"
    width: int = 16
    heads: int = 8

    dims = (2,)

    def multiple(self, data: DataSettings) -> int:
        """Twice the grid of patches, because the stem halves the resolution once."""
        return 2 * MEDT_GRID

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.heads", lambda heads: heads >= 1, "1 or more")
        expected = f"a multiple of twice segmenter.heads ({2 * self.heads})"
        need(
            self,
            "segmenter.width",
            lambda width: width >= 1 and width % (2 * self.heads) == 0,
            expected,
        )


@dataclass(frozen=True)
class SegDiffSettings(SegmenterSettings):
    """SegDiff.

    Attributes:
        features: features of the U-Net at full resolution.
        multipliers: multipliers of the features at each level. `None`: those of improved DDPM for
            the size of the patch.
        residual_blocks: number of residual blocks of the U-Net at each level.
        encoder_blocks: number of RRDBs of the image encoder.
        encoder_features: features of the image encoder.
        growth: features that each convolution of a dense block adds.
        timesteps: T of training, the number of noise levels.
        sampling_timesteps: T of sampling; it must divide `timesteps`.
    """

    name: str = "segdiff"
    votes: int = 5
    features: int = 128
    multipliers: tuple[int, ...] | None = None
    residual_blocks: int = 2
    encoder_blocks: int = 12
    encoder_features: int = 64
    growth: int = 32
    timesteps: int = 100
    sampling_timesteps: int = 100

    dims = (2,)
    training = {"learning_rate": 1e-4, "weight_decay": 0.0, "ema": 0.9999, "validation_votes": 1}  # noqa: RUF012 (never changed)

    def multiple(self, data: DataSettings) -> int:
        """Each level after the first halves the resolution."""
        return 2 ** (len(self.levels(data)) - 1)

    def levels(self, data: DataSettings) -> tuple[int, ...]:
        """Multipliers of the features at each level."""
        if self.multipliers is not None:
            return self.multipliers
        side = min(data.size)
        return (
            (1, 1, 1, 2, 2, 4, 4)
            if side >= 256
            else (1, 1, 2, 3, 4)
            if side >= 128
            else (1, 2, 3, 4)
        )

    @property
    def stochastic(self) -> bool:
        """Always true."""
        return True

    @property
    def diffusion_steps(self) -> int | None:
        """T of sampling."""
        return self.sampling_timesteps

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        for name in (
            "residual_blocks",
            "encoder_blocks",
            "encoder_features",
            "growth",
            "timesteps",
        ):
            need(self, f"segmenter.{name}", lambda number: number >= 1, "1 or more")
        need(
            self,
            "segmenter.features",
            lambda features: features >= 32 and features % 32 == 0,
            "a multiple of 32",
        )
        need(
            self,
            "segmenter.multipliers",
            lambda m: m is None or (len(m) >= 1 and min(m) >= 1),
            "numbers of 1 or more, or null",
        )
        T = self.timesteps
        expected = f"a divisor of segmenter.timesteps ({T})"
        need(
            self,
            "segmenter.sampling_timesteps",
            lambda steps: steps >= 1 and T % steps == 0,
            expected,
        )


@dataclass(frozen=True)
class SegDiffSmallSettings(SegDiffSettings):
    """SegDiff that a CPU trains in minutes: 1/4 of the features, 1/20 of the sampling steps."""

    name: str = "segdiff-small"
    votes: int = 3
    features: int = 32
    residual_blocks: int = 1
    encoder_blocks: int = 2
    encoder_features: int = 32
    growth: int = 16
    sampling_timesteps: int = 5

    training = {"weight_decay": 0.0, "batch": 8, "validation_votes": 1}  # noqa: RUF012 (never changed)


@dataclass(frozen=True)
class MultiSegCapsSettings(SegmenterSettings):
    """Multi-SegCaps.

    Attributes:
        iterations: number of routing iterations.
        reconstruction: weight of the reconstruction loss.
    """

    name: str = "multi-segcaps"
    iterations: int = 3
    reconstruction: float = 0.1

    dims = (2,)
    training = {"batch": 4}  # noqa: RUF012 (never changed)
    neighbours = 2

    def multiple(self, data: DataSettings) -> int:
        """Three strides."""
        return 8

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.iterations", lambda iterations: iterations >= 1, "1 or more")
        need(self, "segmenter.reconstruction", lambda weight: weight >= 0, "0 or more")


@dataclass(frozen=True)
class EMSegCapsSettings(SegmenterSettings):
    """EM-SegCaps.

    Attributes:
        types: numbers of capsule types at full, half, a quarter and an eighth of the resolution.
        iterations: number of routing iterations.
        inverse_temperature: inverse temperature (lambda) of the activations in the routing.
    """

    name: str = "em-segcaps"
    types: tuple[int, int, int, int] = (2, 4, 8, 16)
    iterations: int = 3
    inverse_temperature: float = 0.01

    dims = (2,)
    training = {"batch": 4}  # noqa: RUF012 (never changed)

    def multiple(self, data: DataSettings) -> int:
        """Three strides."""
        return 8

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.types", lambda types: min(types) >= 1, "four numbers, each 1 or more")
        need(self, "segmenter.iterations", lambda iterations: iterations >= 1, "1 or more")
        need(self, "segmenter.inverse_temperature", lambda value: value > 0, "more than 0")


@dataclass(frozen=True)
class UCaps3DSettings(SegmenterSettings):
    """3D-UCaps.

    Attributes:
        iterations: number of routing iterations.
        margin: weight of the margin loss.
        reconstruction: weight of the reconstruction loss.
    """

    name: str = "3d-ucaps"
    iterations: int = 3
    margin: float = 1.0
    reconstruction: float = 0.1

    dims = (3,)
    training = {"batch": 1}  # noqa: RUF012 (never changed)

    def multiple(self, data: DataSettings) -> int:
        """Three strides."""
        return 8

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.iterations", lambda iterations: iterations >= 1, "1 or more")
        for name in ("margin", "reconstruction"):
            need(self, f"segmenter.{name}", lambda weight: weight >= 0, "0 or more")


@dataclass(frozen=True)
class OwnSettings(SegmenterSettings):
    """Your own network.

    Attributes:
        name: class of the network, `package.module.Class`.
        options: further arguments of the network's constructor, by name.
        divisor: divisor of the input's size; each axis of the input is padded to a multiple of it.
    """

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    divisor: int = 16

    def multiple(self, data: DataSettings) -> int:
        """The divisor."""
        return self.divisor

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.divisor", lambda divisor: divisor >= 1, "1 or more")
