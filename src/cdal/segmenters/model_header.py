"""What a model says of itself, and where models lie. Nothing here needs PyTorch."""

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
"""Under which the header stands in a model file."""

_SHIPPED = (Path(__file__).parents[1] / "models", Path(__file__).parents[3] / "models")
"""In a wheel, and in a clone."""


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself.

    Attributes:
        recipe: with which it was trained.
        classes: names, the background first.
        image_channels: channels of one image.
        step: at which its weights were taken.
        scores: Dice of each class on the validation cases at that step.
        data: name of the data folder, names of the cases of each part, fingerprint of the training cases, checksums of all images.
        licence: of the training data, as its folder declares it.
        temperature: of the probabilities (`cdal.inference.decision.temper`), fitted on the validation cases; none where it was not.
        version: of cDAL.
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

    def to_json(self) -> str:
        """As it stands in the model file."""
        return json.dumps({**self.__dict__, "recipe": to_dict(self.recipe)}, sort_keys=True)


def read_header(path: Path) -> ModelHeader:
    """What a model file says of itself, without its weights.

    Raises:
        UserError: the file is no model of ours.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no model file: {error}. Expected a .safetensors file written by cdal train.") from error
    if text is None:
        raise UserError(f"{path} holds weights, but no cDAL header. Expected a file written by cdal train.")
    return header_of(text, path)


def header_of(text: str, path: Path) -> ModelHeader:
    """The header that was written as JSON.

    Raises:
        UserError: it is none, or one that this version cannot read; the message names the file it came from.
    """
    try:
        values = json.loads(text)
        recipe = from_dict(values.pop("recipe"), f"{path}: its recipe")
        header = ModelHeader(recipe=recipe, **{**values, "classes": tuple(map(str, values["classes"]))})
        if len(header.classes) < 2 or not isinstance(header.image_channels, int):
            raise ValueError(f"classes {header.classes}, image_channels {header.image_channels!r}")
        return header
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its header cannot be read ({error}). Was it written by a newer version of cDAL?") from error


def find_model(name: str | Path) -> Path:
    """The file that MODEL means: a file, a run folder, or the name of a shipped model.

    Raises:
        UserError: there is none; the message lists the shipped ones.
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
        raise UserError(f"{path} holds no model{SUFFIX}. Expected a folder that cdal train wrote, after its first validation.")
    raise UserError(f"no model {name}: neither a file, nor a run folder, nor shipped. Shipped: {', '.join(shipped) or 'none'}.")


def shipped_models() -> dict[str, Path]:
    """Name and file of each model that came with the package."""
    return {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob(f"*{SUFFIX}"))}
