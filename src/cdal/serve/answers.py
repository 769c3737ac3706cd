"""What the server says of models, jobs and cases, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
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


def case_answer(
    entry: Entry,
    about: About | None,
    review: Answer | None,
    reviewed: Path | None,
    models: dict[str, str],
) -> Answer:
    """A case.

    Args:
        entry: the case.
        about: kind and grid of its image; `None` if it has not been opened.
        review: what was said of it.
        reviewed: its corrected mask, if there is one.
        models: name of each model of the server by the name that it was loaded with.
    """
    found = entry.found
    saved = [
        kind
        for kind in LAYERS
        if kind == "image" or entry.file(kind) or (kind == "reviewed" and reviewed is not None)
    ]
    unit = "" if found is None else found.unit
    return {
        "id": entry.id,
        "name": printable(entry.name),
        "origin": entry.origin,
        "kind": about.kind if about else ("picture" if unit == "pixels" else "volume"),
        "opened": about is not None,
        "shape": None if about is None else about.shape,
        "spacing": None if about is None else about.spacing,
        "state": "failed" if entry.failed else "new" if found is None else "segmented",
        "message": printable(entry.failed),
        "model": "" if found is None else printable(models.get(found.model, found.model)),
        "unit": unit,
        "classes": [] if found is None else [_class_answer(one) for one in found.classes],
        "uncertainty": None if found is None else found.uncertainty,
        "votes": None if found is None else found.votes,
        "verdict": "" if found is None else found.verdict,
        "outside": None if found is None else found.outside,
        "warnings": [] if found is None else [printable(text) for text in found.warnings],
        "layers": saved,
        "files": [] if found is None else [kind for kind in found.files if entry.file(kind)],
        "review": review,
    }


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
