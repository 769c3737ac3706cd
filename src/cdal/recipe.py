"""A recipe: everything that decides what an experiment does, as one frozen tree of dataclasses.

Shipped recipes are functions in `cdal.recipes` that return a `Recipe`; a variant is `dataclasses.replace` away. The resolved
recipe is written as YAML into the run folder and as JSON into the model file. A field that does not exist, or holds a value
of the wrong type, is refused with the names that exist.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cdal.errors import UserError


@dataclass(frozen=True)
class DataSettings:
    """How cases become network inputs.

    Attributes:
        spatial_dims: axes of space that the network sees. 2 with volumes as cases means slice by slice.
        size: voxels of one training patch along each of these axes; also the sliding window at prediction.
        spacing: millimetres per voxel to which volumes are resampled; none keeps the case's own.
        neighbours: slices on each side that are given as extra channels when volumes are cut into slices ("2.5D").
        slice_axis: axis (0 right, 1 anterior, 2 superior) across which volumes are cut into slices.
        folds: parts of the data in turn used for test (fold k) and validation (fold k + 1).
        fold: k.
        flips: axes along which a mirror image is anatomically possible; used in training and by the votes.
        rotation: largest random rotation in degrees (training).
        scaling: largest random change of size, as a fraction (training).
        shift: largest random displacement in voxels (training).
        intensity: strength of random contrast, brightness, blur and noise; 0 switches them off (training).
    """

    spatial_dims: int = 3
    size: tuple[int, ...] = (48, 64, 48)
    spacing: tuple[float, ...] | None = None
    neighbours: int = 0
    slice_axis: int = 2
    folds: int = 4
    fold: int = 0
    flips: tuple[int, ...] = ()
    rotation: float = 15.0
    scaling: float = 0.2
    shift: float = 3.0
    intensity: float = 1.0


@dataclass(frozen=True)
class CDALSettings:
    """The diffusion segmenter (Hejrati et al., MICCAI 2024), and our changes to it, each of which is one field.

    Attributes:
        name: the segmenter these settings belong to.
        generator: `fast` (encode once, denoise at a quarter of the resolution) or `paper` (the paper's network).
        channels: features of the network at each level, from full resolution downwards.
        denoiser_channels: features of the fast denoiser.
        denoiser_blocks: residual blocks of the fast denoiser; of the paper generator, blocks a level.
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
    attention: Literal["raw", "normalised", "none", "constant", "shuffled"] = "normalised"
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
    data, segmenter, training = recipe.data, recipe.segmenter, recipe.training

    def need(holds: bool, field_name: str, value: object, expected: str) -> None:
        if not holds:
            raise UserError(f"{field_name} must be {expected}; it is {value!r}.")

    need(data.spatial_dims in (2, 3), "data.spatial_dims", data.spatial_dims, "2 or 3")
    need(len(data.size) == data.spatial_dims, "data.size", data.size, f"{data.spatial_dims} numbers (data.spatial_dims)")
    divisor = 2 ** (len(segmenter.channels) - 1)
    need(all(s > 0 and s % divisor == 0 for s in data.size), "data.size", data.size, f"multiples of {divisor}")
    need(data.folds >= 3, "data.folds", data.folds, "at least 3 (test, validation and training)")
    need(0 <= data.fold < data.folds, "data.fold", data.fold, f"0 to {data.folds - 1}")
    need(data.neighbours >= 0, "data.neighbours", data.neighbours, "0 or more")
    need(data.slice_axis in (0, 1, 2), "data.slice_axis", data.slice_axis, "0, 1 or 2")
    axes = range(data.spatial_dims)
    need(all(axis in axes for axis in data.flips), "data.flips", data.flips, f"axes among {list(axes)}")
    need(training.batch >= 1, "training.batch", training.batch, "1 or more")
    need(
        training.steps is not None or training.minutes is not None,
        "training.steps",
        training.steps,
        "a number where training.minutes is none",
    )
    need(training.steps is None or training.steps >= 1, "training.steps", training.steps, "1 or more")
    need(training.minutes is None or training.minutes > 0, "training.minutes", training.minutes, "more than 0")
    need(0 <= training.ema < 1, "training.ema", training.ema, "at least 0 and below 1")
    need(0 <= training.warmup < 1, "training.warmup", training.warmup, "at least 0 and below 1")
    need(segmenter.votes >= 1, "segmenter.votes", segmenter.votes, "1 or more")
    for name in ("validate_every", "validation_votes", "checkpoint_every"):
        need(getattr(training, name) >= 1, f"training.{name}", getattr(training, name), "1 or more")
    if isinstance(segmenter, CDALSettings):
        need(segmenter.timesteps >= 1, "segmenter.timesteps", segmenter.timesteps, "1 or more")
        sampling = segmenter.sampling_timesteps
        need(
            segmenter.timesteps % sampling == 0 if sampling >= 1 else sampling == 0 and segmenter.generator == "fast",
            "segmenter.sampling_timesteps",
            sampling,
            f"a divisor of segmenter.timesteps ({segmenter.timesteps}), or 0 with the fast generator",
        )
        need(0 <= segmenter.recycling <= 1, "segmenter.recycling", segmenter.recycling, "between 0 and 1")
        least_votes = 2 if segmenter.energy else 1
        need(
            segmenter.training_votes >= least_votes,
            "segmenter.training_votes",
            segmenter.training_votes,
            f"{least_votes} or more" + (" (the energy score compares votes)" if segmenter.energy else ""),
        )


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
    segmenter = values.get("segmenter")
    kind = segmenter.get("name", "cdal") if isinstance(segmenter, Mapping) else "cdal"
    if kind not in SETTINGS:
        raise UserError(f"{origin}: no segmenter is called {kind!r}. There are: {', '.join(SETTINGS)}.")
    return _parse(Recipe("", segmenter=SETTINGS[kind]()), lambda parser: parser.parse_object(dict(values)), origin)


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
    for part in ("data", "segmenter", "training"):
        parser.add_argument(f"--{part}", type=type(getattr(base, part)), default=getattr(base, part))
    try:
        parts = parser.instantiate(parse(parser))
    except ArgumentError as error:
        raise UserError(f"{origin}: {_explain(str(error), field_names(base))}") from error
    return Recipe(**{name: parts[name] for name in ("name", "data", "segmenter", "training")})


def _explain(message: str, names: Sequence[str]) -> str:
    """The parser's message, with the fields most like the one it did not know, and all of them."""
    words = message.replace("'", " ").replace('"', " ").replace("=", " ").replace("--", " ").split()
    last_parts = {name.split(".")[1]: name for name in names}
    close = [like[0] for word in words if (like := difflib.get_close_matches(word, names, n=1, cutoff=0.8))]
    close += [last_parts[part] for word in words for part in difflib.get_close_matches(word, last_parts, n=1, cutoff=0.75)]
    hint = f" Did you mean {close[0]}?" if close and close[0] not in message else ""
    return f"{message.strip()}{hint}\nThe fields are: {', '.join(names)}."
