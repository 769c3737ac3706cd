"""The parts of a recipe: plain frozen dataclasses, which need neither PyTorch nor a network.

This module has the settings that all recipes share. The settings of each segmenter are in
`cdal.recipes.cdal` and `cdal.recipes.baselines`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from cdal.runtime.errors import UserError

Precision = Literal["auto", "32", "bf16"]
Cache = Literal["memory", "disk", "none"]

MOST = 10_000
"""Largest whole number in the settings of a segmenter, and largest length of a patch."""


DRAWN = ("interleaved", "stratified", "nnu-net")
"""Partitions that make as many parts as there are folds, each of which is for the test once."""


@dataclass(frozen=True)
class DataSettings:
    """How cases become network inputs.

    Attributes:
        spatial_dims: number of spatial axes that the network sees. With 2, volumes are segmented
            slice by slice.
        size: voxels of one training patch along each of these axes; also the sliding window at
            prediction.
        channels: channels of every image. Gray pictures are repeated to 3; gray pictures saved as
            colours are reduced to 1. `None`: as many as the first case has.
        spacing: millimetres per voxel to which volumes are resampled. `None`: the case's own.
        resize: rows and columns to which pictures are resampled. `None`: the picture's own.
        intensities: scaling of intensities. `image`: each image is clipped to its percentiles 0.5
            and 99.5 and scaled to mean 0 and standard deviation 1. `range`: the range of the stored
            type (0 to 255 for 8 bits) is mapped to [-2, 2], the same for every image.
        neighbours: slices on each side that become extra channels if volumes are cut into slices
            ("2.5D").
        slice_axis: axis across which volumes are cut into slices: 0 right, 1 anterior, 2 superior.
        partition: name of the rule that divides the cases: `interleaved` by the sorted names,
            `stratified` by the columns of cases.csv, `nnu-net` as nnU-Net does, `given` by the
            column `split`, or the name of a partition in splits.json; see
            `cdal.datasets.partition`.
        folds: number of parts. With the first three, part k is for the test and part k + 1 for
            validation. Otherwise the cases outside the test set are divided into these parts,
            and one part is for validation unless the partition names the validation cases.
        fold: number k of the fold.
        validation: whether validation cases are kept apart to choose the weights. False trains on
            them too and keeps the weights of the last step. It is meant for a final training, with
            the length and settings that an earlier training with validation has found.
        patient: regular expression that finds the patient in a case's name. All cases of a patient
            stay in one part (stratified).
        overlap: overlap of neighbouring windows at prediction, as a fraction. Windows are blended
            with a Gaussian. 0 puts them side by side.
        whole: size limit for segmenting in one piece: up to this many times `size` along each axis.
        protocols: names of the scoring protocols, the main one first; see `cdal.recipes.protocols`.
        flips: axes along which a mirror image is anatomically possible (training, `mirror_votes`).
        mirror_votes: whether the votes see the mirror images in turn. Each mirror image is encoded
            separately.
        components: number of connected components to keep of each class, the largest first. 0 keeps
            all; see `cdal.inference.decision.decide`.
        decision: how the mask is chosen from the votes. `largest`: the most probable class of each
            voxel. `expected-dice`: of all thresholds, the one whose mask has the highest mean Dice
            with the votes, for each class and image (`cdal.inference.ballot`).
        position: whether the network also sees where each voxel lies in the image. For pictures
            that are seen whole and were cut around their object.
        rotation: largest random rotation in degrees (training).
        scaling: largest random change of size, as a fraction (training).
        shift: largest random displacement in voxels (training).
        intensity: strength of random contrast, brightness, blur and noise; 0 switches them off
            (training).
        stain: strength of random changes of haematoxylin, eosin and DAB (training; colour pictures
            with `range`).
        collimation: share of the patches that are dark and flat outside a random field. The field
            contains the foreground, as in many X-rays (training; for images that are seen whole).
        foreground: share of the patches that are centred on a voxel of a class (training).
    """

    spatial_dims: int = 3
    size: tuple[int, ...] = (48, 64, 48)
    channels: int | None = None
    spacing: tuple[float, ...] | None = None
    resize: tuple[int, int] | None = None
    intensities: Literal["image", "range"] = "image"
    neighbours: int = 0
    slice_axis: int = 2
    partition: str = "interleaved"
    folds: int = 4
    fold: int = 0
    validation: bool = True
    patient: str | None = None
    overlap: float = 0.5
    whole: float = 2.0
    protocols: tuple[str, ...] = ("own-grid",)
    flips: tuple[int, ...] = ()
    mirror_votes: bool = False
    components: int = 0
    decision: Literal["largest", "expected-dice"] = "largest"
    position: bool = False
    rotation: float = 15.0
    scaling: float = 0.2
    shift: float = 3.0
    intensity: float = 1.0
    stain: float = 0.0
    collimation: float = 0.0
    foreground: float = 0.0

    def network_channels(self, image_channels: int) -> int:
        """Number of channels that the network sees of an image with this many."""
        return image_channels * (2 * self.neighbours + 1) + self.position * self.spatial_dims

    @property
    def mirrors(self) -> tuple[tuple[int, ...], ...]:
        """Flipped axes of each mirror image that the votes see; the first is the image itself."""
        axes = self.flips if self.mirror_votes else ()
        return tuple(
            chosen
            for count in range(len(axes) + 1)
            for chosen in itertools.combinations(axes, count)
        )


@dataclass(frozen=True)
class SegmenterSettings:
    """Settings that every segmenter has; each segmenter adds its own fields.

    Attributes:
        name: name of the segmenter (`cdal.recipes.systems`).
        votes: segmentations that are averaged for one image. A deterministic segmenter has at most
            one for each mirror image.
    """

    name: str
    votes: int = 1

    dims: ClassVar[tuple[int, ...]] = (2, 3)
    """Numbers of spatial axes that the network supports."""

    neighbours: ClassVar[int] = 0
    """Neighbouring slices on each side that the network gets if it sees volumes slice by slice."""

    training: ClassVar[Mapping[str, Any]] = {}
    """Fields of `TrainingSettings` in which the authors' training differs from ours."""

    def multiple(self, data: DataSettings) -> int:
        """The number of which the network's input must be a multiple along each axis."""
        return 1

    @property
    def parts(self) -> tuple[SegmenterSettings, ...]:
        """Settings of each network: those of an ensemble's members, or these alone."""
        return (self,)

    @property
    def stochastic(self) -> bool:
        """Whether two votes for the same image can differ."""
        return False

    @property
    def several_annotators(self) -> bool:
        """Whether a training step can learn several annotators of one image."""
        return False

    @property
    def diffusion_steps(self) -> int | None:
        """T of sampling; `None` if the segmenter has no diffusion."""
        return None

    def check(self, data: DataSettings) -> None:
        """Refuse values that no run could use; raises the same errors as `need`."""
        for option in dataclasses.fields(self):
            if _numbers(getattr(self, option.name)):
                need(
                    self,
                    f"segmenter.{option.name}",
                    lambda value: max(_numbers(value)) <= MOST,
                    f"at most {MOST}",
                )
        need(self, "segmenter.votes", lambda votes: votes >= 1, "1 or more")
        need(
            self,
            "segmenter.name",
            lambda _: data.spatial_dims in self.dims,
            f"a segmenter for {data.spatial_dims} axes of space",
        )

    def smallest_grid(self, data: DataSettings) -> int:
        """Voxels along the shortest axis of a training patch at the networks' lowest resolution."""
        return math.ceil(min(data.size) / self.multiple(data))

    def without_diffusion(self) -> SegmenterSettings | None:
        """Settings for sampling the same weights without diffusion; `None` if impossible."""
        return None

    def shaped_like(self, other: SegmenterSettings) -> SegmenterSettings:
        """These settings with the sizes of `other`, if one is a method and the other its control.

        Such a pair can be compared only if both have the same sizes. Other settings are unchanged.
        """
        return self


@dataclass(frozen=True)
class TrainingSettings:
    """How the segmenter is trained.

    Attributes:
        steps: number of optimisation steps. `None`: only `minutes` limits the length.
        minutes: wall-clock budget; the learning rate's schedule follows it. If `steps` is set too,
            training ends with whichever is reached first.
        batch: patches per step, on all devices together.
        annotators: annotators of one image whose labels are learned in one step, if it has several;
            drawn anew at every step. `cdal` computes the image's features once for all of them;
            other segmenters need 1.
        learning_rate: peak learning rate of the network that predicts (AdamW).
        discriminator_learning_rate: peak learning rate of the discriminator (Adam).
        betas: momenta of AdamW. The discriminator uses the paper's, 0.5 and 0.9.
        weight_decay: weight decay of AdamW.
        warmup: share of the budget during which the learning rate rises; one cosine follows.
        ema: decay of the moving average of the weights that predict. It increases to this value
            over the first steps.
        clip: largest norm of the gradient.
        precision: number format, `bf16` or `32`. `auto` takes bf16 if the device has it natively.
        validate_every: steps from one validation to the next.
        validation_votes: votes per case at validation.
        validation_cases: number of cases at validation, evenly taken from the sorted names. `None`:
            all.
        watch_test: whether every validation also logs the Dice of the test cases. Nothing is chosen
            by it. It shows the effect of choosing weights by the test cases, as the paper's program
            does. Its time counts towards a budget in minutes.
        calibrate: whether a temperature for the probabilities is fitted on the validation cases at
            the end. Masks do not depend on it.
        checkpoint_every: steps from one checkpoint to the next.
        cache: where decoded cases are kept. `memory`: all in memory. `disk`: in files of the run
            folder until the training ends, mapped into memory. `none`: nowhere; a case is decoded
            whenever it is drawn. The result is the same.
        seed: random seed for all draws.
    """

    steps: int | None = 5000
    minutes: float | None = None
    batch: int = 2
    annotators: int = 1
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    warmup: float = 0.05
    ema: float = 0.999
    clip: float = 1.0
    precision: Precision = "auto"
    validate_every: int = 250
    validation_votes: int = 2
    validation_cases: int | None = None
    watch_test: bool = False
    calibrate: bool = True
    checkpoint_every: int = 250
    cache: Cache = "memory"
    seed: int = 0


def _numbers(value: object) -> tuple[int, ...]:
    """The whole numbers of a setting: one, those of a tuple, or none."""
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if type(number) is int)


def need(owner: object, field_name: str, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuse a field's value if it does not meet a condition.

    Args:
        owner: part of the recipe that has the field.
        field_name: name of the field with its part, such as `training.batch`.
        holds: condition that the value must meet.
        expected: description of that condition.

    Raises:
        UserError: the message names the field, the expected values and the given value.
    """
    value = getattr(owner, field_name.split(".")[1])
    if not holds(value):
        raise UserError(f"{field_name} must be {expected}; it is {value!r}.")


def need_channels(owner: SegmenterSettings, least: int = 1, exactly: int | None = None) -> None:
    """Refuse `channels` with a wrong number of levels or with numbers below 1."""
    levels = (
        f"{exactly} numbers"
        if exactly
        else f"{least} levels or more"
        if least > 1
        else "a list of numbers"
    )
    counts = range(exactly, exactly + 1) if exactly else range(least, 100)
    need(
        owner,
        "segmenter.channels",
        lambda channels: len(channels) in counts and min(channels) >= 1,
        f"{levels}, each 1 or more",
    )
