"""What a model says of itself to people and to the places where models are kept.

All of it comes from the header of the model file, and from the card beside it, if there is one:
`NAME.md` beside `NAME.safetensors`, as shipped models have it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cdal.recipes.systems import SYSTEMS
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_model, short_name
from cdal.segmenters.model_header import SUFFIX, ModelHeader, read_header
from cdal.segmenters.trust import own_networks

PAPER = (
    "Hejrati, Banerjee, Glide-Hurst, Dong: Conditional diffusion model with spatial attention and "
    "latent embedding for medical image segmentation. MICCAI 2024"
)
AUTHORS = "The cDAL developers"

_LICENCES = {
    "cc by 4.0": "CC-BY-4.0",
    "cc by sa 4.0": "CC-BY-SA-4.0",
    "cc by nc 4.0": "CC-BY-NC-4.0",
    "cc by nc sa 4.0": "CC-BY-NC-SA-4.0",
    "cc by nd 4.0": "CC-BY-ND-4.0",
    "cc by nc nd 4.0": "CC-BY-NC-ND-4.0",
    "cc0 1.0": "CC0-1.0",
    "apache 2.0": "Apache-2.0",
    "mit": "MIT",
}
"""SPDX identifier of each licence that is recognised, by its words."""

_FILLERS = ("the", "license", "licence", "version")

_NO_DEVICE = "For research. It is no medical device."


@dataclass(frozen=True)
class Shared:
    """A model on its way to others.

    Attributes:
        path: its file.
        header: its header.
        name: its name.
        text: card beside the file; empty if there is none.
    """

    path: Path
    header: ModelHeader
    name: str
    text: str

    @property
    def licence(self) -> str:
        """SPDX identifier of the licence that the header names; empty unless it is just one."""
        found = re.findall(r"[a-z]+\d*|\d+(?:\.\d+)*", self.header.licence.lower())
        words = " ".join(word for word in found if word not in _FILLERS)
        named = {
            identifier
            for name, identifier in _LICENCES.items()
            if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", words)
        }
        return named.pop() if len(named) == 1 else ""

    @property
    def system(self) -> str:
        """Name of the segmenter."""
        return self.header.recipe.segmenter.name

    @property
    def networks(self) -> list[str]:
        """Classes outside cDAL that the file names, without whose code it cannot be loaded."""
        return own_networks(self.header.recipe)

    @property
    def structures(self) -> str:
        """The classes without the background, as text."""
        return ", ".join(self.header.classes[1:])

    @property
    def about(self) -> str:
        """What the model does, in one sentence."""
        data = self.header.recipe.data
        kind = "volumes" if data.spatial_dims == 3 or data.neighbours else "pictures"
        return f"Segments {self.structures} in {kind}, and shows where it is unsure."


def open_shared(model: Path | str) -> Shared:
    """Read what is needed to share a model.

    Args:
        model: a `.safetensors` file, a run folder, the name of a shipped model, or one of the hub.

    Raises:
        UserError: the model does not exist, or it is an exported graph.
    """
    path = find_model(model)
    if path.suffix != SUFFIX:
        raise UserError(f"{path} is an exported graph. Give the {SUFFIX} file that it was made of.")
    card = path.with_suffix(".md")
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return Shared(path, read_header(path), short_name(path), text)


def readme(shared: Shared, use: str) -> str:
    """The README of a shared model, without metadata.

    Args:
        shared: the model.
        use: how it is used where it goes to, in Markdown.
    """
    text = shared.text.strip() or _described(shared)
    validation = _validation(shared.header)
    use = use.strip("\n")  # the spaces before its first line make it code
    return f"{text}\n\n## Use\n\n{use}\n\n## Validation\n\n{validation}\n"


def trusting(networks: Sequence[str]) -> str:
    """The lines of Python by which someone trusts classes outside cDAL, each indented."""
    return "".join(f"    cdal.trust_own_network({name!r})\n" for name in networks)


def needs_code(networks: Sequence[str]) -> str:
    """What others need for a model that names classes outside cDAL, in one paragraph."""
    named = ", ".join(f"`{name}`" for name in networks)
    return (
        f"The network is no part of cDAL: {named}. Loading the model imports the module and runs "
        "it, so only load it if you trust it. Install the package that holds it, or name its "
        "folder in `PYTHONPATH`."
    )


def hub_metadata(shared: Shared) -> dict[str, Any]:
    """The metadata of a model card of the hub."""
    header, data = shared.header, shared.header.recipe.data
    axes = f"{data.spatial_dims}d"
    tags = ["medical", "segmentation", "uncertainty", shared.system, axes]
    if header.recipe.segmenter.diffusion_steps is not None:
        tags.append("diffusion")
    licence = shared.licence.lower() or ("other" if header.licence else "unknown")
    named = {"license_name": "see-card"} if licence == "other" else {}
    metadata: dict[str, Any] = {
        "library_name": "cdal",
        "license": licence,
        **named,
        "pipeline_tag": "image-segmentation",
        "tags": tags,
        "metrics": ["dice"],
    }
    if header.scores:
        metadata["model-index"] = [{"name": shared.name, "results": [_result(shared)]}]
    return metadata


def model_card(shared: Shared, use: str) -> str:
    """The README of a model on the hub: metadata, then text."""
    metadata = yaml.safe_dump(hub_metadata(shared), sort_keys=False, allow_unicode=True)
    return f"---\n{metadata}---\n\n{readme(shared, use)}"


def named_cases(header: ModelHeader) -> int:
    """Number of cases that a header names, which goes with the model wherever it goes."""
    named: set[str] = set()
    for model in header.models:
        for part in ("train", "validation", "test"):
            names = model.data.get(part)
            named |= set(map(str, names)) if isinstance(names, list) else set()
    return len(named)


def _described(shared: Shared) -> str:
    """The text of a card, if there is none beside the file."""
    header, recipe = shared.header, shared.header.recipe
    data, settings = recipe.data, recipe.segmenter
    about = SYSTEMS[settings.name].about if settings.name in SYSTEMS else "a network of its own"
    steps = settings.diffusion_steps
    drawn = f"{settings.votes} votes" + ("" if steps is None else f", {steps} steps of sampling")
    members = f"{len(header.members)} models that vote together; " if header.members else ""
    counts = [
        f"{len(header.data[part])} for {word}"
        for part, word in _PARTS.items()
        if header.data.get(part)
    ]
    spacing = f", {' x '.join(f'{s:g}' for s in data.spacing)} mm a voxel" if data.spacing else ""
    rows = {
        "segments": shared.structures,
        "architecture": f"{members}`{settings.name}`: {about}; {drawn}",
        "images": f"{data.spatial_dims} axes, {header.image_channels} channel(s){spacing}",
        "cases": f"{header.data.get('name', 'not named')}: {', '.join(counts) or 'not named'}",
        "licence of the training data": header.licence or "not declared",
        "recipe": recipe.name,
        "version of cDAL": header.version,
    }
    table = "\n".join(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items())
    title = f"# {_cell(shared.name)}\n\n{_cell(shared.about)}"
    return f"{title}\n\n| | |\n|---|---|\n{table}\n\n{_NO_DEVICE}"


_PARTS = {"train": "training", "validation": "validation", "test": "testing"}


def _validation(header: ModelHeader) -> str:
    """The scores of the training, and how a model is scored on cases that it has not seen."""
    score = "`cdal evaluate MODEL --data DATA` scores it on your own annotated cases."
    if not header.scores:
        return f"The file holds no scores. {score}"
    rows = "\n".join(f"| {_cell(k)} | {v:.4f} |" for k, v in header.scores.items())
    return (
        f"On the validation cases, which chose the weights of step {header.step}:\n\n"
        f"| class | mean Dice |\n|---|---|\n{rows}\n\n{score}"
    )


def _result(shared: Shared) -> dict[str, Any]:
    """The scores of a model, as a model card lists them."""
    name = str(shared.header.data.get("name") or "validation cases")
    return {
        "task": {"type": "image-segmentation"},
        "dataset": {
            "name": name,
            "type": re.sub(r"[^\w.-]+", "-", name.lower()),
            "split": "validation",
        },
        "metrics": [
            {"type": "dice", "name": f"mean Dice, {key}", "value": round(float(value), 4)}
            for key, value in shared.header.scores.items()
        ],
    }


def _cell(text: object) -> str:
    """Text for a cell of a table: names of classes and folders come from files."""
    flat = re.sub(r"\s+", " ", str(text))
    return re.sub(r"([|<>\[\]])", r"\\\1", flat)
