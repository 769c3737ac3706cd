"""A recipe: everything that decides what an experiment does, as one frozen tree of dataclasses.

Shipped recipes are functions in `cdal.recipes` that return a `Recipe`; a variant is `dataclasses.replace` away. The resolved
recipe is written as YAML into the run folder and as JSON into the model file. A field that does not exist, or holds a value
of the wrong type, is refused with the names that exist.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cdal.errors import UserError
from cdal.protocols import PROTOCOLS

Attention = Literal["raw", "normalised", "none", "constant", "shuffled"]


@dataclass(frozen=True)
class DataSettings:
    """How cases become network inputs.

    Attributes:
        spatial_dims: axes of space that the network sees. 2 with volumes as cases means slice by slice.
        size: voxels of one training patch along each of these axes; also the sliding window at prediction.
        channels: of every image: gray pictures are repeated to 3, gray ones saved as colours are reduced to 1; none takes those of
            the first case.
        spacing: millimetres per voxel to which volumes are resampled; none keeps the case's own.
        resize: rows and columns to which pictures are resampled; none keeps the picture's own.
        intensities: `image` scales each image to mean 0 and standard deviation 1, clipped to its percentiles 0.5 and 99.5; `range`
            maps the range of the stored type (0 to 255 for 8 bits) to [-2, 2], the same for every image.
        neighbours: slices on each side that are given as extra channels when volumes are cut into slices ("2.5D").
        slice_axis: axis (0 right, 1 anterior, 2 superior) across which volumes are cut into slices.
        partition: how cases are parted: `interleaved` by the sorted names, `stratified` by what is known of them, `given` by the
            column `split` of cases.csv, or the name of a partition in splits.json; see `cdal.data.partition`.
        folds: parts of the data. If interleaved or stratified, part k is for the test and part k + 1 for validation; otherwise the
            cases that are not for the test are parted so, and one part is for validation unless the partition says which.
        fold: k.
        patient: regular expression that finds the patient in a case's name; cases of one patient stay in one part (stratified).
        overlap: of neighbouring windows at prediction, as a fraction; they are blended by a Gaussian. 0 lays them side by side.
        whole: an image up to this many times `size` along each axis is segmented in one piece.
        protocols: how scores are made, the first before any others; see `cdal.protocols`.
        flips: axes along which a mirror image is anatomically possible; used in training and by the votes.
        rotation: largest random rotation in degrees (training).
        scaling: largest random change of size, as a fraction (training).
        shift: largest random displacement in voxels (training).
        intensity: strength of random contrast, brightness, blur and noise; 0 switches them off (training).
        stain: strength of random changes of haematoxylin, eosin and DAB (training; colour pictures with `range`).
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
    patient: str | None = None
    overlap: float = 0.5
    whole: float = 2.0
    protocols: tuple[str, ...] = ("own-grid",)
    flips: tuple[int, ...] = ()
    rotation: float = 15.0
    scaling: float = 0.2
    shift: float = 3.0
    intensity: float = 1.0
    stain: float = 0.0
    foreground: float = 0.0


@dataclass(frozen=True)
class CDALSettings:
    """The diffusion segmenter (Hejrati et al., MICCAI 2024), and our changes to it, each of which is one field.

    Attributes:
        name: the segmenter these settings belong to.
        generator: `fast` (encode once, denoise at a quarter of the resolution) or `paper` (the paper's network).
        channels: features of the network at each level, from full resolution downwards.
        denoiser_channels: features of the fast denoiser.
        denoiser_blocks: residual blocks of the fast denoiser.
        latent: length L of the random latent z (Sec. 2.3).
        embedding: length of the embedding of z and t.
        timesteps: T of training, the number of noise levels.
        sampling_timesteps: T of sampling; it must divide `timesteps`, so that every noise level met was trained. 0 takes the fast
            generator's coarse segmentation and no diffusion: the deterministic twin.
        votes: segmentations that are drawn and averaged for one image (Sec. 3.2: 5).
        discriminator_channels: features of the discriminator, each further level at half the resolution.
        discriminator_fold: pixels along an axis that the discriminator folds into channels at its entry (1: none).
        attention: `raw` is the paper's A_D; `normalised` has mean 1 and is not negative; `none`, `constant` (the mean of the raw
            map) and `shuffled` are controls.
        attention_downsample: the discriminator's features are taken at this fraction of the resolution.
        squared_error: weight of Eq. 4.
        energy: weight of the energy score of the training votes, which rewards votes spread as the truth is.
        dice: weight of the soft Dice loss of the mean of the training votes.
        cross_entropy: weight of the cross-entropy of the mean of the training votes.
        coarse: weight of Dice and cross-entropy of the fast generator's coarse segmentation (deep supervision).
        adversarial: weight of the discriminator's opinion in the generator's loss (the paper: 0).
        training_votes: draws of z for one image in one generator step; the energy score needs at least 2.
        recycling: share of the training x_t that is made from the generator's own prediction.
        r1: weight of the gradient penalty on real pairs.
        r1_every: steps from one penalty to the next ("lazy").
    """

    name: Literal["cdal"] = "cdal"
    generator: Literal["fast", "paper"] = "fast"
    channels: tuple[int, ...] = (16, 32, 64, 128)
    denoiser_channels: int = 64
    denoiser_blocks: int = 2
    latent: int = 32
    embedding: int = 128
    timesteps: int = 4
    sampling_timesteps: int = 2
    votes: int = 5
    discriminator_channels: tuple[int, ...] = (48, 64, 96)
    discriminator_fold: int = 4
    attention: Attention = "normalised"
    attention_downsample: int = 8
    squared_error: float = 1.0
    energy: float = 1.0
    dice: float = 1.0
    cross_entropy: float = 1.0
    coarse: float = 1.0
    adversarial: float = 0.1
    training_votes: int = 2
    recycling: float = 0.5
    r1: float = 1.0
    r1_every: int = 16


@dataclass(frozen=True)
class UNetSettings:
    """A plain U-Net, trained with Dice and cross-entropy: the fast generator's image network and nothing else.

    Attributes:
        name: the segmenter these settings belong to.
        channels: features at each level, from full resolution downwards.
        votes: passes that are averaged for one image, each with another flip of `data.flips`.
    """

    name: Literal["unet"] = "unet"
    channels: tuple[int, ...] = (16, 32, 64, 128)
    votes: int = 1


SegmenterSettings = CDALSettings | UNetSettings
_PARTS = ("data", "segmenter", "training")
SETTINGS: dict[str, type[SegmenterSettings]] = {"cdal": CDALSettings, "unet": UNetSettings}


@dataclass(frozen=True)
class TrainingSettings:
    """How the segmenter is trained.

    Attributes:
        steps: optimisation steps; none leaves the length to `minutes`.
        minutes: wall-clock budget; the learning rate's schedule follows it. With `steps` too, whichever ends first.
        batch: patches a step.
        learning_rate: peak learning rate of the player that predicts (AdamW).
        discriminator_learning_rate: peak learning rate of the discriminator (Adam).
        betas: momenta of AdamW. The discriminator's are the paper's (0.5, 0.9).
        weight_decay: of AdamW.
        warmup: share of the budget during which the learning rate rises; one cosine follows.
        ema: decay of the moving average of the weights that predict; it builds up over the first steps.
        clip: largest norm of the gradient.
        precision: `bf16` or `32`; `auto` takes bf16 where the device computes it natively.
        validate_every: steps from one validation to the next.
        validation_votes: votes a case at validation.
        checkpoint_every: steps from one checkpoint to the next.
        seed: of every random draw.
    """

    steps: int | None = 5000
    minutes: float | None = None
    batch: int = 2
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    warmup: float = 0.05
    ema: float = 0.999
    clip: float = 1.0
    precision: Literal["auto", "32", "bf16"] = "auto"
    validate_every: int = 250
    validation_votes: int = 2
    checkpoint_every: int = 250
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: of the recipe it began as.
        data: how cases become network inputs.
        segmenter: what is trained; its `name` says which settings these are.
        training: how.
    """

    name: str
    data: DataSettings = field(default_factory=DataSettings)
    segmenter: SegmenterSettings = field(default_factory=CDALSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        check(self)


def check(recipe: Recipe) -> None:
    """Refuse values that no run could use.

    Raises:
        UserError: names the field, what was expected and what came.
    """
    _check_data(recipe.data, len(recipe.segmenter.channels))
    _check_training(recipe.training)
    _need(recipe, "segmenter.votes", lambda votes: votes >= 1, "1 or more")
    _need(recipe, "segmenter.channels", lambda channels: len(channels) >= 1 and min(channels) >= 1, "some numbers of 1 or more")
    if isinstance(recipe.segmenter, CDALSettings):
        _check_cdal(recipe)


def _check_data(data: DataSettings, levels: int) -> None:
    dims = data.spatial_dims
    _need(data, "data.spatial_dims", lambda d: d in (2, 3), "2 or 3")
    _need(data, "data.size", lambda size: len(size) == dims, f"{dims} numbers (data.spatial_dims)")
    divisor = max(4, 2 ** (levels - 1))
    _need(data, "data.size", lambda size: all(s > 0 and s % divisor == 0 for s in size), f"multiples of {divisor}")
    _need(data, "data.spacing", lambda s: s is None or (len(s) == 3 and min(s) > 0), "3 numbers above 0, or null")
    _need(data, "data.folds", lambda folds: folds >= 3, "at least 3 (test, validation and training)")
    turned = data.partition in ("interleaved", "stratified")  # other partitions know their folds themselves
    _need(data, "data.fold", lambda fold: 0 <= fold < (data.folds if turned else math.inf), f"0 to {data.folds - 1}")
    _need(data, "data.neighbours", lambda n: n >= 0, "0 or more")
    _need(data, "data.slice_axis", lambda axis: axis in (0, 1, 2), "0, 1 or 2")
    _need(data, "data.flips", lambda flips: set(flips) <= set(range(dims)), f"axes among {list(range(dims))}")
    _need(data, "data.channels", lambda channels: channels is None or channels >= 1, "1 or more, or null")
    _need(data, "data.resize", lambda size: size is None or (dims == 2 and min(size) >= 1), "2 numbers (pictures alone), or null")
    _need(data, "data.partition", lambda name: bool(name), "a name")
    known = f"some of {', '.join(PROTOCOLS)}"
    _need(data, "data.protocols", lambda names: len(names) >= 1 and set(names) <= set(PROTOCOLS), known)
    _need(data, "data.overlap", lambda share: 0 <= share < 1, "at least 0 and below 1")
    _need(data, "data.whole", lambda times: times >= 1, "1 or more")
    _need(data, "data.foreground", lambda share: 0 <= share <= 1, "between 0 and 1")
    colour = data.intensities == "range" and data.channels in (3, None)
    _need(
        data, "data.stain", lambda strength: strength == 0 or colour, "0 unless data.intensities is range and there are 3 channels"
    )
    for name in ("rotation", "scaling", "shift", "intensity", "stain"):
        _need(data, f"data.{name}", lambda strength: strength >= 0, "0 or more")


def _check_training(training: TrainingSettings) -> None:
    endless = training.minutes is None
    _need(training, "training.steps", lambda steps: steps is not None or not endless, "a number where training.minutes is none")
    for name in ("steps", "batch", "validate_every", "validation_votes", "checkpoint_every"):
        _need(training, f"training.{name}", lambda number: number is None or number >= 1, "1 or more")
    for name in ("minutes", "learning_rate", "discriminator_learning_rate", "clip"):
        _need(training, f"training.{name}", lambda number: number is None or number > 0, "more than 0")
    for name in ("ema", "warmup"):
        _need(training, f"training.{name}", lambda share: 0 <= share < 1, "at least 0 and below 1")
    _need(training, "training.betas", lambda betas: all(0 <= beta < 1 for beta in betas), "at least 0 and below 1")
    for name in ("weight_decay", "seed"):
        _need(training, f"training.{name}", lambda number: number >= 0, "0 or more")


def _check_cdal(recipe: Recipe) -> None:
    settings = recipe.segmenter
    assert isinstance(settings, CDALSettings)
    fast, T = settings.generator == "fast", settings.timesteps
    _need(recipe, "segmenter.channels", lambda channels: len(channels) >= 3 or not fast, "3 levels or more (the fast generator)")
    for name in ("denoiser_channels", "denoiser_blocks", "embedding", "timesteps", "r1_every", "attention_downsample"):
        _need(recipe, f"segmenter.{name}", lambda number: number >= 1, "1 or more")
    for name in ("latent", "squared_error", "energy", "dice", "cross_entropy", "coarse", "adversarial", "r1"):
        _need(recipe, f"segmenter.{name}", lambda number: number >= 0, "0 or more")
    _need(
        recipe,
        "segmenter.sampling_timesteps",
        lambda steps: T % steps == 0 if steps >= 1 else steps == 0 and fast,
        f"a divisor of segmenter.timesteps ({T}), or 0 with the fast generator",
    )
    _need(recipe, "segmenter.recycling", lambda share: 0 <= share <= 1, "between 0 and 1")
    least = 2 if settings.energy else 1
    reason = " (the energy score compares votes)" if settings.energy else ""
    _need(recipe, "segmenter.training_votes", lambda votes: votes >= least, f"{least} or more{reason}")
    _need(recipe, "segmenter.discriminator_channels", lambda c: len(c) >= 1 and min(c) >= 1, "some numbers of 1 or more")
    folds = [fold for fold in (1, 2, 4, 8) if all(size % fold == 0 for size in recipe.data.size)]
    _need(recipe, "segmenter.discriminator_fold", lambda fold: fold in folds, f"one of {folds}, which divide data.size")


def _need(owner: Any, field_name: str, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuse a field's value; `owner` is the recipe or the part whose field it is."""
    part, name = field_name.split(".")
    value = getattr(getattr(owner, part) if isinstance(owner, Recipe) else owner, name)
    if not holds(value):
        raise UserError(f"{field_name} must be {expected}; it is {value!r}.")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain numbers, strings, lists and dictionaries: what YAML and JSON hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(recipe))


def from_dict(values: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
    """The recipe that `to_dict` gave, or that a person wrote; fields left out have their defaults.

    Args:
        values: nested dictionaries.
        origin: what to call the source in an error.

    Raises:
        UserError: a field does not exist or has the wrong type; the message lists the names that exist.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{origin} must be a mapping with data, segmenter and training; it is {type(values).__name__}.")
    given = {name: value for name, value in values.items() if value is not None}  # an empty part is one left out
    unknown = [str(name) for name in given if name not in ("name", *_PARTS)]
    if unknown:
        raise UserError(f"{origin}: no part is called {', '.join(unknown)}. The parts are: name, {', '.join(_PARTS)}.")
    wrong = [name for name in _PARTS if not isinstance(given.get(name, {}), Mapping)]
    if wrong:
        raise UserError(f"{origin}: {wrong[0]} must be a mapping of fields; it is {given[wrong[0]]!r}.")
    kind = given.get("segmenter", {}).get("name", "cdal")
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise UserError(f"{origin}: no segmenter is called {kind!r}. There are: {', '.join(SETTINGS)}.")
    return _parse(Recipe("", segmenter=SETTINGS[kind]()), lambda parser: parser.parse_object(given), origin)


def override(recipe: Recipe, options: Sequence[str]) -> Recipe:
    """The recipe with some fields changed.

    Args:
        recipe: to start from.
        options: as on the command line, `["--training.batch", "4"]` or `["--training.batch=4"]`.

    Raises:
        UserError: as `from_dict`.
    """
    return _parse(recipe, lambda parser: parser.parse_args(list(options)), "the command line") if options else recipe


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        UserError: the file cannot be read, is not YAML, or is not a recipe.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a YAML recipe: {error}") from error
    return from_dict(values, str(path))


def to_yaml(recipe: Recipe) -> str:
    """The recipe as a person reads it."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, default_flow_style=None, width=120)


def field_names(recipe: Recipe) -> list[str]:
    """Every field as it is written on the command line, `training.batch`."""
    parts = {"data": recipe.data, "segmenter": recipe.segmenter, "training": recipe.training}
    return [f"{part}.{item.name}" for part, value in parts.items() for item in dataclasses.fields(value)]


def _parse(base: Recipe, parse: Any, origin: str) -> Recipe:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--name", type=str, default=base.name)
    for part in _PARTS:
        parser.add_argument(f"--{part}", type=type(getattr(base, part)), default=getattr(base, part))
    try:
        parts = parser.instantiate(parse(parser))
    except ArgumentError as error:
        raise UserError(f"{origin}: {_explain(str(error), field_names(base))}") from error
    return Recipe(**{name: parts[name] for name in ("name", *_PARTS)})


def _explain(message: str, names: Sequence[str]) -> str:
    """The parser's message, with the field most like the one it did not know, and all of them."""
    unknown = re.search(r"unrecognized arguments: --([\w.]+)|option '([\w.]+)'", message)
    if unknown is None:
        return message.strip()
    wrong = unknown[1] or unknown[2]
    by_last_part = {name.split(".")[1]: name for name in names}
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.7)
    close = close or [by_last_part[m] for m in difflib.get_close_matches(wrong.split(".")[-1], by_last_part, n=1)]
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{message.strip()}{hint}\nThe fields are: {', '.join(names)}."
