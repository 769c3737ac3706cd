"""Settings of cDAL, of its controls, and of its image network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from cdal.recipes.settings import DataSettings, SegmenterSettings, need, need_channels

FOLD = 4
"""Pixels along each axis of a label that become channels of one position.

The fast generator and its discriminator see labels in this form.
"""

Attention = Literal["raw", "normalised", "none", "constant", "shuffled"]


@dataclass(frozen=True)
class CDALSettings(SegmenterSettings):
    """The diffusion segmenter (Hejrati et al., MICCAI 2024) and our changes to it.

    Each change is one field.

    Attributes:
        name: name of the segmenter (`cdal.recipes.systems`).
        votes: segmentations that are drawn and averaged for one image. The paper uses 5 (Sec. 3.2).
            Their mean is still noisy: its Dice is 0.1 to 0.2 points below that of 15 votes.
        generator: type of the generator: `fast` (encode once, denoise at a quarter of the
            resolution) or `paper` (the paper's network).
        channels: features of the network at each level, from full resolution downwards.
        denoiser_channels: features of the fast denoiser.
        denoiser_blocks: residual blocks of the fast denoiser.
        latent: length L of the random latent z (Sec. 2.3).
        embedding: length of the embedding of z and t.
        timesteps: T of training, the number of noise levels.
        sampling_timesteps: T of sampling. It must divide `timesteps`, so that every noise level was
            trained. 0 takes the fast generator's coarse segmentation, which is deterministic, and
            leaves out the diffusion.
        diffusion: whether there is a diffusion. False sets x_t and z to zero and uses one step: the
            identical network, deterministic, as a control.
        z: source of the latent z. `drawn`: random, as in the paper. `constant`: always the same z,
            as a control.
        discriminator_channels: features of the discriminator at each level; each further level has
            half the resolution.
        attention: attention map of the discriminator. `raw`: the paper's A_D. `normalised`: not
            negative, with mean 1. `none`, `constant` (the mean of the raw map) and `shuffled` are
            controls.
        attention_downsample: downsampling factor at which the discriminator's features are taken.
        squared_error: weight of the squared error (Eq. 4).
        energy: weight of the energy score of the training votes. It rewards votes that are
            distributed as the truth is.
        iou_energy: weight of the energy score of the training votes with 1 - IoU as the distance:
            the generalised energy distance as a loss. It lets votes be whole or empty.
        dice: weight of the soft Dice loss of the mean of the training votes.
        cross_entropy: weight of the cross-entropy of the mean of the training votes.
        coarse: weight of Dice and cross-entropy of the fast generator's coarse segmentation (deep
            supervision).
        adversarial: weight of the discriminator's judgement in the generator's loss (the paper: 0).
        training_votes: draws of z for one image in one generator step; the energy score needs at
            least 2.
        recycling: share of the training x_t that is made from the generator's own prediction.
        r1: weight of the gradient penalty on real pairs.
        discriminator_every: steps from one turn of the discriminator to the next (the paper: 1).
            Steps between its turns have no attention and no adversarial term. The adversarial
            term's weight is multiplied by this number at its turns.
        r1_every: turns of the discriminator from one penalty to the next ("lazy" regularisation).
    """

    name: str = "cdal"
    votes: int = 15
    generator: Literal["fast", "paper"] = "fast"
    channels: tuple[int, ...] = (16, 32, 64, 128)
    denoiser_channels: int = 32
    denoiser_blocks: int = 1
    latent: int = 32
    embedding: int = 128
    timesteps: int = 4
    sampling_timesteps: int = 2
    diffusion: bool = True
    z: Literal["drawn", "constant"] = "drawn"
    discriminator_channels: tuple[int, ...] = (32, 64)
    attention: Attention = "normalised"
    attention_downsample: int = 8
    squared_error: float = 1.0
    energy: float = 1.0
    iou_energy: float = 0.0
    dice: float = 1.0
    cross_entropy: float = 1.0
    coarse: float = 1.0
    adversarial: float = 0.1
    training_votes: int = 2
    recycling: float = 0.5
    r1: float = 1.0
    discriminator_every: int = 4
    r1_every: int = 16

    def multiple(self, data: DataSettings) -> int:
        """Each level after the first halves the resolution."""
        return 2 ** (len(self.channels) - 1)

    @property
    def folding(self) -> int:
        """Pixels along each axis of a label that are folded into channels; 1 means no folding."""
        return FOLD if self.generator == "fast" else 1

    @property
    def stochastic(self) -> bool:
        """True if the label is diffused, in at least one sampling step."""
        return self.diffusion and self.sampling_timesteps > 0

    @property
    def several_annotators(self) -> bool:
        """Always: annotators are further samples with the features of their image."""
        return True

    @property
    def diffusion_steps(self) -> int | None:
        """T of sampling; `None` without diffusion."""
        return self.sampling_timesteps if self.diffusion else None

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        fast, T = self.generator == "fast", self.timesteps
        need_channels(self, 3 if fast else 1)
        for name in (
            "denoiser_channels",
            "denoiser_blocks",
            "embedding",
            "timesteps",
            "discriminator_every",
            "r1_every",
            "attention_downsample",
        ):
            need(self, f"segmenter.{name}", lambda number: number >= 1, "1 or more")
        for name in (
            "latent",
            "squared_error",
            "energy",
            "iou_energy",
            "dice",
            "cross_entropy",
            "coarse",
            "adversarial",
            "r1",
        ):
            need(self, f"segmenter.{name}", lambda number: number >= 0, "0 or more")
        need(
            self,
            "segmenter.sampling_timesteps",
            lambda steps: T % steps == 0 if steps >= 1 else steps == 0 and fast,
            f"a divisor of segmenter.timesteps ({T}), or 0 with the fast generator",
        )
        need(self, "segmenter.recycling", lambda share: 0 <= share <= 1, "between 0 and 1")
        minimum = 2 if self.energy or self.iou_energy else 1
        reason = " (the energy score compares votes)" if self.energy else ""
        need(
            self,
            "segmenter.training_votes",
            lambda votes: votes >= minimum,
            f"{minimum} or more{reason}",
        )
        need(
            self,
            "segmenter.discriminator_channels",
            lambda c: len(c) >= 1 and min(c) >= 1,
            "a list of numbers, each 1 or more",
        )
        if not self.diffusion:
            need(self, "segmenter.timesteps", lambda steps: steps == 1, "1 without diffusion")
            for name in ("energy", "iou_energy", "adversarial", "recycling"):
                need(self, f"segmenter.{name}", lambda weight: weight == 0, "0 without diffusion")
            need(self, "segmenter.attention", lambda kind: kind == "none", "none without diffusion")

    def smallest_grid(self, data: DataSettings) -> int:
        """See `SegmenterSettings.smallest_grid`.

        The discriminator's lowest resolution may be below the generator's.
        """
        discriminator = min(data.size) / self.folding / 2 ** (len(self.discriminator_channels) - 1)
        return min(super().smallest_grid(data), math.ceil(discriminator))

    def without_diffusion(self) -> SegmenterSettings | None:
        """Settings for the fast generator's coarse segmentation; `None` if it has none."""
        return (
            replace(self, sampling_timesteps=0)
            if self.generator == "fast" and self.stochastic
            else None
        )

    def shaped_like(self, other: SegmenterSettings) -> SegmenterSettings:
        """See `SegmenterSettings.shaped_like`."""
        control = {"cdal-deterministic": deterministic, "cdal-constant-z": constant_z}.get(
            self.name
        )
        return control(other) if control is not None and isinstance(other, CDALSettings) else self


@dataclass(frozen=True)
class ImageUNetSettings(SegmenterSettings):
    """Only the fast generator's image network, trained with Dice and cross-entropy.

    Attributes:
        name: name of the segmenter (`cdal.recipes.systems`).
        votes: passes that are averaged for one image; see `SegmenterSettings`.
        channels: features at each level, from full resolution downwards.
    """

    name: str = "cdal-unet"
    votes: int = 1
    channels: tuple[int, ...] = (16, 32, 64, 128)

    def multiple(self, data: DataSettings) -> int:
        """Each level after the first halves the resolution."""
        return 2 ** (len(self.channels) - 1)

    @property
    def several_annotators(self) -> bool:
        """Always: the loss is the mean over the annotators."""
        return True

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need_channels(self)

    def shaped_like(self, other: SegmenterSettings) -> SegmenterSettings:
        """See `SegmenterSettings.shaped_like`."""
        return replace(self, channels=other.channels) if isinstance(other, CDALSettings) else self


def paper() -> CDALSettings:
    """The paper's method: the raw attention map, and the squared error as the only loss.

    The network's size is the authors' for the hippocampus.
    """
    return CDALSettings(
        name="cdal-paper",
        votes=5,
        generator="paper",
        channels=(36, 72, 72),
        latent=50,
        embedding=256,
        timesteps=2,
        sampling_timesteps=2,
        discriminator_channels=(64, 128, 128),
        attention="raw",
        attention_downsample=4,
        energy=0.0,
        dice=0.0,
        cross_entropy=0.0,
        coarse=0.0,
        adversarial=0.0,
        training_votes=1,
        recycling=0.0,
        discriminator_every=1,
        r1_every=10,
    )


def deterministic(settings: CDALSettings | None = None) -> CDALSettings:
    """The same network without diffusion: x_t and z are zero, and nothing is drawn at random.

    The soft Dice takes the place of the IoU's energy score, which compares votes.
    """
    settings = settings or CDALSettings()
    return replace(
        settings,
        name="cdal-deterministic",
        diffusion=False,
        timesteps=1,
        sampling_timesteps=1,
        votes=1,
        attention="none",
        energy=0.0,
        iou_energy=0.0,
        dice=1.0 if settings.iou_energy else settings.dice,
        adversarial=0.0,
        training_votes=1,
        recycling=0.0,
    )


def constant_z(settings: CDALSettings | None = None) -> CDALSettings:
    """The same method with a constant z; votes differ only because of the noise."""
    return replace(settings or CDALSettings(), name="cdal-constant-z", z="constant")
