"""The header of a model file. Nothing here needs PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from cdal.imaging.formats import format_of
from cdal.recipes.ensemble import join_recipes, need_equal
from cdal.recipes.recipe import Recipe, from_dict, to_dict
from cdal.runtime.errors import UserError
from cdal.runtime.version import __version__

SUFFIX = ".safetensors"
MODEL = f"model{SUFFIX}"
"""Name of the model file in a run folder, and in a repository of the hub."""

CHECKPOINT = "checkpoint.pt"
"""Name of the checkpoint in a run folder."""

KEY = "cdal"
"""Metadata key of the header in a model file."""

MOST_CLASSES, MOST_CHANNELS = 256, 64
"""Most classes of a model, which its masks of 8 bits can number, and most channels of an image."""

MOST_MEMBERS = 32
"""Most members of an ensemble."""

LEAST_TEMPERATURE, MOST_TEMPERATURE = 1e-3, 1e3


class Seen(NamedTuple):
    """Cases on which weights were trained or chosen.

    Attributes:
        names: their names.
        images: checksums of their images; empty in files of earlier versions.
    """

    names: frozenset[str]
    images: frozenset[str]

    def holds(self, name: str, digest: str | None) -> bool:
        """Whether a case is one of them.

        It is known by its image, whatever its name is now; by its name if there are no checksums.

        Args:
            name: name of the case.
            digest: checksum of its image; `None` if it is not known.
        """
        return digest in self.images if self.images and digest else name in self.names


@dataclass(frozen=True)
class ModelHeader:
    """The header of a model file: how the model was trained, and how to use it.

    Attributes:
        recipe: recipe of the training.
        classes: names of the classes, the background first.
        image_channels: number of channels of one image.
        step: training step at which the weights were taken.
        scores: Dice of each class on the validation cases at that step.
        data: name of the data folder, names of the cases in each part, fingerprint of the training
            cases, and checksums of all images. `from` describes the model that the training
            started from, if there is one: its name and checksum, and the cases that it has seen.
            `axes` is the number of axes of the training images.
        licence: licence of the training data, as its folder declares it.
        temperature: temperature for calibrating probabilities (`cdal.inference.decision.temper`),
            fitted on the validation cases; `None` if it was not fitted.
        quality: what estimates the quality of a case (`cdal.inference.quality.Quality`); empty if
            it was not fitted.
        training_images: what the training images were (`cdal.inference.likeness.TrainingImages`);
            empty if that is not known.
        version: version of cDAL that wrote the file.
        channel_files: whether each channel of a training image was a file of its own; `None` if
            that is not known, as in files of earlier versions.
        members: header of each member of an ensemble; empty for a single model. What an ensemble
            has of its own is its temperature; `join_headers` tells the rest from the members.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    image_channels: int
    step: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    temperature: float | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    training_images: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    channel_files: bool | None = None
    members: tuple[ModelHeader, ...] = ()

    @property
    def models(self) -> tuple[ModelHeader, ...]:
        """The header of each single model: an ensemble's members, or this one."""
        return self.members or (self,)

    @property
    def in_space(self) -> bool | None:
        """Whether the training images had a place in space, as volumes have, and pictures not.

        `None` if that is not known.
        """
        for model in self.models:
            if model.data.get("axes") == 2:
                return False
            if "lengths" in model.training_images:
                return bool(model.training_images["lengths"])
        return None

    @property
    def seen_before(self) -> Seen:
        """As `seen`, of the model that the training started from, and of those before it."""
        start = self.data.get("from")
        start = start if isinstance(start, dict) else {}
        return Seen(_texts(start.get("names")), _texts(start.get("images")))

    @property
    def seen(self) -> Seen:
        """Names and image checksums of the cases on which weights were trained or chosen.

        There are no checksums in files of earlier versions. Of cases that were seen before, names
        are there only if their checksums are not known.
        """
        names = _texts(self.data.get("train")) | _texts(self.data.get("validation"))
        digests = self.data.get("images")
        own = digests if isinstance(digests, dict) else {}
        names_before, images_before = self.seen_before
        images = _texts([own.get(name) for name in names])
        return Seen(names | names_before, images | images_before)

    def to_dict(self) -> dict[str, Any]:
        """The header as plain values, as stored in the model file."""
        if self.members:
            own = {name: getattr(self, name) for name in _OF_AN_ENSEMBLE}
            return {**own, "members": [member.to_dict() for member in self.members]}
        values = {**self.__dict__, "recipe": to_dict(self.recipe)}
        del values["members"]
        return values

    def to_json(self) -> str:
        """The header as JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)


_OF_AN_ENSEMBLE = ("members", "temperature", "version", "quality", "training_images", "data")
"""Fields that are stored of an ensemble."""


def join_headers(headers: Sequence[ModelHeader], names: Sequence[str]) -> ModelHeader:
    """The header of an ensemble.

    Its temperature is the geometric mean of its members'; it has none if one of them has none. That
    is a little too high, because the mean of models that are calibrated one by one is not certain
    enough (Wu, Gales: "Should Ensemble Members Be Calibrated?", 2021). None at all is further off
    for models that were trained for long.

    Args:
        headers: header of each member, a single model.
        names: name of each member, for errors.

    Raises:
        UserError: there are too many members, or two of them cannot vote together. The message
            names what differs.
    """
    if not 2 <= len(headers) <= MOST_MEMBERS:
        raise UserError(
            f"an ensemble has 2 to {MOST_MEMBERS} members; {len(headers)} models are given."
        )
    first = headers[0]
    for header, name in zip(headers[1:], names[1:], strict=True):
        for field_name in ("classes", "image_channels", "channel_files"):
            values = [getattr(one, field_name) for one in (first, header)]
            if None not in values:
                need_equal(field_name, values, (names[0], name))
    recipe = join_recipes([header.recipe for header in headers], names)
    known = {header.channel_files for header in headers} - {None}
    return ModelHeader(
        recipe,
        first.classes,
        first.image_channels,
        licence="; ".join(dict.fromkeys(header.licence for header in headers if header.licence)),
        temperature=_joined_temperature(headers),
        channel_files=known.pop() if known else None,
        members=tuple(headers),
    )


def named_models(
    headers: Sequence[ModelHeader], paths: Sequence[Path]
) -> tuple[list[ModelHeader], list[str]]:
    """The header of each single model in several files, and a name for each, for errors."""
    found = [
        (model, f"member {number} of {path}" if header.members else f"{path}")
        for header, path in zip(headers, paths, strict=True)
        for number, model in enumerate(header.models)
    ]
    return [model for model, _ in found], [name for _, name in found]


def read_header(path: Path) -> ModelHeader:
    """Read the header of a model file without its weights.

    Raises:
        UserError: the file is not a cDAL model.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is no model file: {error}. Expected a .safetensors file written by cdal train."
            f"{' The model comes first, then the images.' if format_of(path) else ''}"
        ) from error
    if text is None:
        raise UserError(
            f"{path} holds weights, but no cDAL header. Expected a file written by cdal train."
        )
    return header_of(text, path)


def header_of(text: str, path: Path) -> ModelHeader:
    """Parse a header from JSON.

    Args:
        text: header as JSON.
        path: path of its file, for error messages.

    Raises:
        UserError: the text is not a header, or this version cannot read it.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, Mapping):
            raise TypeError(f"expected a mapping; it is {type(values).__name__}")
        return _ensemble(values, path) if "members" in values else _single(values, path)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path}: its header cannot be read ({what}). Was it written by a newer version of "
            "cDAL?"
        ) from error


def _single(values: Mapping[str, Any], path: Path) -> ModelHeader:
    """The header of a single model; the errors are those of Python, and those of its recipe."""
    problem = _problem(values)
    if problem:
        raise ValueError(problem)
    recipe = _recipe_of(values["recipe"], path)
    rest = {**values, "recipe": recipe, "classes": tuple(values["classes"])}
    return ModelHeader(**rest)


def _ensemble(values: Mapping[str, Any], path: Path) -> ModelHeader:
    """The header of an ensemble; the errors are those of `_single` and of `join_headers`."""
    members, version = values["members"], values.get("version", "")
    if unknown := sorted(set(values) - set(_OF_AN_ENSEMBLE)):
        raise ValueError(f"an ensemble has no {unknown[0]!r:.40}")
    if not isinstance(members, list) or not 2 <= len(members) <= MOST_MEMBERS:
        count = len(members) if isinstance(members, list) else type(members).__name__
        raise ValueError(f"expected a list of 2 to {MOST_MEMBERS} members; it is {count}")
    for member in members:
        if not isinstance(member, Mapping) or "members" in member:
            raise ValueError("each member must be the header of a single model")
    if problem := _temperature_problem(values):
        raise ValueError(problem)
    if not isinstance(version, str):
        raise ValueError(f"version is {version!r:.40}")
    own = {name: values.get(name, {}) for name in ("quality", "training_images", "data")}
    if wrong := [name for name, value in own.items() if not isinstance(value, dict)]:
        raise ValueError(f"{wrong[0]} is {own[wrong[0]]!r:.40}")
    names = [f"member {number} of {path}" for number in range(len(members))]
    joined = join_headers([_single(member, path) for member in members], names)
    return replace(joined, temperature=values.get("temperature"), version=version, **own)


def _recipe_of(values: Any, path: Path) -> Recipe:
    """The recipe of a header; every error names the file."""
    try:
        return from_dict(values, f"{path}: its recipe")
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: its recipe: {error}") from error


def _problem(values: Mapping[str, Any]) -> str:
    """What is wrong with the values of a header; empty if they are possible."""
    classes, channels = values["classes"], values["image_channels"]
    if not isinstance(classes, list) or not 2 <= len(classes) <= MOST_CLASSES:
        count = len(classes) if isinstance(classes, list) else type(classes).__name__
        return f"expected a list of 2 to {MOST_CLASSES} classes; it is {count}"
    if not all(isinstance(name, str) and _whole_text(name) for name in classes):
        return "the names of classes must be text"
    if len(set(classes)) < len(classes):
        return "two classes have the same name"
    if not _whole(channels) or not 1 <= channels <= MOST_CHANNELS:
        return f"image_channels must be 1 to {MOST_CHANNELS}; it is {channels!r:.40}"
    if not _whole(values.get("step", 0)):
        return f"step must be a number; it is {values['step']!r:.40}"
    if problem := _temperature_problem(values):
        return problem
    if values.get("channel_files") not in (None, True, False):
        return f"channel_files must be true, false or null; it is {values['channel_files']!r:.40}"
    kinds: dict[str, type] = {
        "scores": dict,
        "data": dict,
        "licence": str,
        "version": str,
        "quality": dict,
        "training_images": dict,
    }
    wrong = [name for name, kind in kinds.items() if not isinstance(values.get(name, kind()), kind)]
    return f"{wrong[0]} is {values[wrong[0]]!r:.40}" if wrong else ""


def _temperature_problem(values: Mapping[str, Any]) -> str:
    temperature = values.get("temperature")
    if temperature is None or possible_temperature(temperature):
        return ""
    return (
        f"temperature must be {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}; it is "
        f"{temperature!r:.40}"
    )


def possible_temperature(temperature: object) -> bool:
    """Whether probabilities can be calibrated by this temperature."""
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    return number and LEAST_TEMPERATURE <= temperature <= MOST_TEMPERATURE  # type: ignore[operator]


def _texts(values: object) -> frozenset[str]:
    """The texts of a list; none if it is something else."""
    found = values if isinstance(values, (list, tuple)) else ()
    return frozenset(value for value in found if isinstance(value, str))


def _whole_text(text: str) -> bool:
    """Whether text can be written: halves of characters cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _joined_temperature(headers: Sequence[ModelHeader]) -> float | None:
    """The temperature of an ensemble, see `join_headers`."""
    fitted = [header.temperature for header in headers]
    if None in fitted:
        return None
    return round(math.prod(fitted) ** (1 / len(fitted)), 3)  # type: ignore[arg-type]
