"""Settings of the baselines that draw several segmentations with the image network of cDAL.

All have the sizes of `ImageUNetSettings`, so that only the way of drawing differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cdal.recipes.cdal import CDALSettings, ImageUNetSettings
from cdal.recipes.settings import DataSettings, SegmenterSettings, need


@dataclass(frozen=True)
class ProbabilisticSettings(ImageUNetSettings):
    """The settings that these baselines share.

    Attributes:
        votes: segmentations that are drawn and averaged for one image. The papers compare 16.
    """

    votes: int = 16

    @property
    def stochastic(self) -> bool:
        """Always true."""
        return True

    def shaped_like(self, other: SegmenterSettings) -> SegmenterSettings:
        """See `SegmenterSettings.shaped_like`; also as many votes, if `other` draws several."""
        if not isinstance(other, CDALSettings):
            return self
        votes = other.votes if other.stochastic else self.votes
        return replace(self, channels=other.channels, votes=votes)


@dataclass(frozen=True)
class ProbUNetSettings(ProbabilisticSettings):
    """Probabilistic U-Net.

    Attributes:
        latent: length of the latent z (the paper: 6).
        beta: weight of the Kullback-Leibler divergence against the cross-entropy summed over the
            voxels (the paper's for lung nodules: 10).
    """

    name: str = "prob-unet"
    latent: int = 6
    beta: float = 10.0

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.latent", lambda length: length >= 1, "1 or more")
        need(self, "segmenter.beta", lambda weight: weight >= 0, "0 or more")


@dataclass(frozen=True)
class SSNSettings(ProbabilisticSettings):
    """Stochastic Segmentation Network.

    Attributes:
        rank: rank R of the covariance's factor P (the paper: 10).
        samples: draws of the logits for one image in a training step (the paper: 20).
    """

    name: str = "ssn"
    rank: int = 10
    samples: int = 20

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        for name in ("rank", "samples"):
            need(self, f"segmenter.{name}", lambda number: number >= 1, "1 or more")


@dataclass(frozen=True)
class MCDropoutSettings(ProbabilisticSettings):
    """Monte-Carlo dropout.

    Attributes:
        dropout: share of the features that are left out before each block below full resolution.
    """

    name: str = "mc-dropout"
    dropout: float = 0.5

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(
            self,
            "segmenter.dropout",
            lambda share: 0 < share < 1,
            "above 0 and below 1 (cdal-unet is the network without dropout)",
        )
        need(
            self,
            "segmenter.channels",
            lambda channels: len(channels) >= 2,
            "2 levels or more, as dropout is below full resolution",
        )
