"""What the server says of models, jobs and cases, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.evaluation.review.cases import Found
from cdal.imaging.palette import PALETTE
from cdal.inference.predictor import Predictor
from cdal.runtime.text import printable
from cdal.serve.cases import Entry
from cdal.serve.jobs import Job, Jobs
from cdal.serve.layers import LAYERS
from cdal.serve.opened import About

Answer = dict[str, Any]


def colour_of(number: int) -> str:
    """Colour of a class, `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[number % len(PALETTE)])


def labels_of(names: Sequence[str]) -> list[Answer]:
    """The classes except the background, from their names with it."""
    return [
        {"name": printable(name), "number": number, "colour": colour_of(number)}
        for number, name in enumerate(names)
        if number
    ]


def model_answer(name: str, predictor: Predictor) -> Answer:
    """A model."""
    header = predictor.header
    return {
        "name": name,
        "dimension": predictor.recipe.data.spatial_dims,
        "channels": header.image_channels,
        "labels": labels_of(header.classes),
        "votes": predictor.votes,
        "timesteps": predictor.recipe.segmenter.diffusion_steps,
        "licence": printable(header.licence),
        "trained_on": printable(str(header.data.get("name", ""))),
    }


def job_answer(job: Job, jobs: Jobs) -> Answer:
    """A job."""
    return {
        "id": job.id,
        "state": job.state,
        "share": round(job.share, 4),
        "message": printable(job.message),
        "case": job.case,
        "seconds": round(job.seconds, 3),
        "position": jobs.position(job),
    }


@dataclass(frozen=True)
class Known:
    """What is known of a case besides its results.

    Attributes:
        about: kind and grid of its image; `None` if it has not been opened.
        review: what was said of it.
        reviewed: its corrected mask, if there is one.
        changed: whether its image is not the one that was segmented.
        message: why it could not be segmented, or what is to do; empty if nothing.
        fault: why what was said of it cannot be read; empty if it can.
    """

    about: About | None = None
    review: Answer | None = None
    reviewed: Path | None = None
    changed: bool = False
    message: str = ""
    fault: str = ""


def case_answer(entry: Entry, known: Known, models: dict[str, str]) -> Answer:
    """A case.

    Args:
        entry: the case.
        known: what is known of it besides its results.
        models: name of each model of the server by the name that it was loaded with.
    """
    found, about = entry.found, known.about
    saved = [
        kind
        for kind in LAYERS
        if kind == "image"
        or (not known.changed and (entry.file(kind) or (kind == "reviewed" and known.reviewed)))
    ]
    unit = "" if found is None else found.unit
    warnings = [] if found is None else [printable(text) for text in found.warnings]
    return {
        "id": entry.id,
        "name": printable(entry.name),
        "origin": entry.origin,
        "kind": about.kind if about else ("picture" if unit == "pixels" else "volume"),
        "opened": about is not None,
        "shape": None if about is None else about.shape,
        "spacing": None if about is None else about.spacing,
        "state": _state(entry, known),
        "message": printable(known.message),
        "model": "" if found is None else printable(models.get(found.model, found.model)),
        "unit": unit,
        "classes": [] if found is None else [_class_answer(one) for one in found.classes],
        "uncertainty": None if found is None else found.uncertainty,
        "votes": None if found is None else found.votes,
        "verdict": "" if found is None else found.verdict,
        "outside": None if found is None else found.outside,
        "warnings": [*warnings, printable(known.fault)] if known.fault else warnings,
        "layers": saved,
        "files": [] if found is None else [kind for kind in found.files if entry.file(kind)],
        "review": known.review,
    }


def _state(entry: Entry, known: Known) -> str:
    if entry.found is not None:
        return "changed" if known.changed else "segmented"
    return "failed" if known.message else "new"


def _class_answer(found: Found) -> Answer:
    return {
        "name": printable(found.name),
        "number": found.number,
        "colour": colour_of(found.number),
        "volume": found.volume,
        "volume_interval": found.volume_interval,
        "expected_dice": found.dice,
        "dice_interval": found.dice_interval,
    }
