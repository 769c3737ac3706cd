"""The header of a model file, and where models are found. Nothing here needs PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cdal.recipes.recipe import Recipe, from_dict, to_dict
from cdal.runtime.errors import UserError
from cdal.runtime.version import __version__

SUFFIX = ".safetensors"
KEY = "cdal"
"""Metadata key of the header in a model file."""

_SHIPPED = (Path(__file__).parents[1] / "models", Path(__file__).parents[3] / "models")
"""Folders of the shipped models: in a wheel, and in a clone of the repository."""


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
            cases, and checksums of all images.
        licence: licence of the training data, as its folder declares it.
        temperature: temperature for calibrating probabilities (`cdal.inference.decision.temper`),
            fitted on the validation cases; `None` if it was not fitted.
        version: version of cDAL that wrote the file.
        channel_files: whether each channel of a training image was a file of its own; `None` if
            that is not known, as in files of earlier versions.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    image_channels: int
    step: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    temperature: float | None = None
    version: str = __version__
    channel_files: bool | None = None

    def to_json(self) -> str:
        """The header as JSON, as stored in the model file."""
        return json.dumps({**self.__dict__, "recipe": to_dict(self.recipe)}, sort_keys=True)


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
        recipe = from_dict(values.pop("recipe"), f"{path}: its recipe")
        header = ModelHeader(
            recipe=recipe, **{**values, "classes": tuple(map(str, values["classes"]))}
        )
        if header.channel_files not in (None, True, False):
            raise ValueError(f"channel_files {header.channel_files!r}")
        if len(header.classes) < 2 or not isinstance(header.image_channels, int):
            raise ValueError(f"classes {header.classes}, image_channels {header.image_channels!r}")
        return header
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: its header cannot be read ({error}). Was it written by a newer version of "
            "cDAL?"
        ) from error


def find_model(name: str | Path) -> Path:
    """Find a model file, given the file itself, a run folder, or the name of a shipped model.

    Raises:
        UserError: the model does not exist; the message lists the shipped models.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / f"model{SUFFIX}").is_file():
        return path / f"model{SUFFIX}"
    shipped = shipped_models()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.is_dir():
        raise UserError(
            f"{path} holds no model{SUFFIX}. Expected a folder that cdal train wrote, after its "
            "first validation."
        )
    raise UserError(
        f"no model {name}: neither a file, nor a run folder, nor shipped. Shipped: "
        f"{', '.join(shipped) or 'none'}."
    )


def shipped_models() -> dict[str, Path]:
    """Name and path of each model that is shipped with the package."""
    return {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob(f"*{SUFFIX}"))}
