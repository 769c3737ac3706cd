"""The routes that 3D Slicer and QuPath know from MONAI Label: what there is, and what is next.

Written after what their clients send and read (Apache-2.0); no code of theirs is in it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from cdal.imaging.open import open_image
from cdal.runtime.errors import UserError
from cdal.runtime.text import printable
from cdal.runtime.version import __version__
from cdal.serve.answers import Answer
from cdal.serve.cases import Entry
from cdal.serve.monailabel_store import download_name, labels_of_case
from cdal.serve.refusals import missing, unusable
from cdal.serve.reviews import review_of
from cdal.serve.site import Site
from cdal.serve.training import Run, curve_of, need_running

_STRATEGIES = {"uncertainty": "the least certain first", "first": "in the order of their names"}
_MINUTES = 10.0
"""Minutes of a training, if a client does not say."""

MOST_NUMBER = 2**31
"""Highest place or size in pixels that a client may ask for."""

_LARGEST_CHECKED = 2**28
"""Bytes up to which a checksum of a file is told."""


def monailabel_routes(site: Site) -> APIRouter:
    """The routes for signing in, information and active learning."""
    routes = APIRouter(tags=["MONAI Label"])

    @routes.get("/auth/")
    def enabled() -> Answer:
        """Whether a token is needed."""
        return {"enabled": site.settings.token is not None, "realm": "cdal", "client_id": "cdal"}

    @routes.post("/auth/token")
    async def token(request: Request) -> Answer:
        """Sign in: the password is the server's token, the name is not looked at."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        given, expected = form.get("password", [""])[-1], site.settings.token or ""
        if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
            raise HTTPException(401, "The password is not the token of this server.")
        return {"access_token": expected, "token_type": "bearer"}

    @routes.get("/auth/token/valid")
    def valid() -> Answer:
        """Whether the token that the request brings is right; otherwise it is not answered."""
        return {"status": "valid"}

    @routes.get("/info/")
    def info() -> Answer:
        """The models, strategies and number of images."""
        return _info(site)

    @routes.get("/train/")
    def training(check_if_running: bool = False) -> Answer:
        """What has become of the last training; with `check_if_running`, 404 if it has ended."""
        if check_if_running:
            need_running(site.training)
        if site.training.run is None:
            raise missing("A training")
        return _status(site.training.run)

    @routes.post("/train/{model}")
    async def train(request: Request, model: str) -> Answer:
        """Train a model further on reviewed cases."""
        asked = json_of(await request.body())
        minutes, name = asked.get("minutes", _MINUTES), asked.get("name", "")
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)):
            raise unusable("minutes must be a number.")
        if not isinstance(name, str):
            raise unusable("name must be text.")
        run = await run_in_threadpool(site.training.start, model, minutes, name)
        return _status(run)

    @routes.delete("/train/")
    def stop() -> Answer:
        """Tell the training to end."""
        run = need_running(site.training)
        site.training.stop()
        return _status(run)

    @routes.post("/activelearning/{strategy}")
    async def following(request: Request, strategy: str) -> Answer:
        """The image to annotate next; nothing if all are annotated.

        With `image` and `patch_size`, the part of this image in which the model is least certain.
        """
        if strategy not in _STRATEGIES:
            raise missing(f"A strategy of this name (there are: {', '.join(_STRATEGIES)})")
        asked = json_of(await request.body())
        return await run_in_threadpool(_following, site, strategy, asked)

    return routes


def _status(run: Run) -> Answer:
    """A training as the clients expect it."""
    times = [run.began] if run.ended is None else [run.began, run.ended]
    told = [datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds") for at in times]
    return {
        "id": run.out.name,
        "status": "RUNNING" if run.running else "DONE" if run.state == "done" else "ERROR",
        "start_ts": told[0],
        "end_ts": told[-1] if run.ended is not None else None,
        "result": run.message or run.state,
        "details": [run.message or run.state],
    }


def _trainers(site: Site) -> Answer:
    """Models that can be trained further, each with what a client may set."""
    if not site.training.possible:
        return {}
    about = {"description": "Further training on reviewed cases", "config": {"minutes": _MINUTES}}
    return dict.fromkeys(site.models.names, about)


def _train_stats(site: Site) -> Answer:
    """How far a training is; the clients count epochs, which are seconds here."""
    run = site.training.run
    if run is None:
        return {}
    scores = [point["dice"] for point in curve_of(run.out) if point["dice"] is not None]
    passed = int((run.ended or time.time()) - run.began)
    return {
        run.model: {
            "epoch": min(passed, int(60 * run.minutes)),
            "total_epochs": max(1, int(60 * run.minutes)),
            "total_time": passed if run.ended else 0,
            "best_metric": max(scores, default=0.0),
        }
    }


def json_of(body: bytes) -> Answer:
    """A JSON object, empty if there is none; QuPath does not say that its text is JSON.

    Raises:
        HTTPException: 422, it is something else.
    """
    try:
        content = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise unusable("Expected a JSON object.")
    return content


def numbers_of(asked: Answer, name: str, count: int) -> list[int]:
    """Whole numbers from a list in a JSON object, zeros if there is none.

    Raises:
        HTTPException: 422, it is something else.
    """
    values = asked.get(name)
    if values is None:
        return [0] * count
    if not isinstance(values, list) or len(values) != count or not all(map(_is_number, values)):
        raise unusable(f"{name}: expected a list of {count} numbers; it is {values!r:.60}.")
    return [int(value) for value in values]


def number_of(asked: Answer, name: str) -> float:
    """A number in a JSON object, 0 if there is none; errors as `numbers_of`."""
    value = asked.get(name)
    if value is not None and not _is_number(value):
        raise unusable(f"{name}: expected a number; it is {value!r:.60}.")
    return float(value or 0)


def _is_number(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -MOST_NUMBER <= value <= MOST_NUMBER  # type: ignore[operator]


def _info(site: Site) -> Answer:
    models: dict[str, Any] = {}
    for name in site.models.names:
        predictor = site.models.named(name)
        labels = {printable(label): k for k, label in enumerate(predictor.header.classes) if k}
        models[name] = {
            "type": "segmentation",
            "labels": labels,
            "dimension": predictor.recipe.data.spatial_dims,
            "description": printable(predictor.recipe.name),
            "config": {"votes": predictor.votes, "seed": predictor.sampling.seed},
        }
    entries = site.cases.listed()
    tags: dict[str, int] = {}
    for entry in entries:
        for tag in labels_of_case(entry):
            tags[tag] = tags.get(tag, 0) + 1
    return {
        "name": "cdal",
        "description": "Segmentation by few-step diffusion that says how sure it is",
        "version": __version__,
        "labels": list(
            dict.fromkeys(label for model in models.values() for label in model["labels"])
        ),
        "models": models,
        "trainers": _trainers(site),
        "strategies": {name: {"description": about} for name, about in _STRATEGIES.items()},
        "scoring": {},
        "train_stats": _train_stats(site),
        "datastore": {
            "total": len(entries),
            "completed": tags.get("final", 0),
            "label_tags": tags,
        },
    }


def _following(site: Site, strategy: str, asked: Answer) -> Answer:
    if asked.get("image") and asked.get("patch_size") is not None:
        size = numbers_of(asked, "patch_size", 2)
        entry = site.find(str(asked["image"]))
        return {**_sample(entry), "bbox": _doubtful(site, entry, (size[0], size[1]))}
    entries = site.cases.listed()
    if strategy == "first":
        ordered = sorted(entries, key=lambda entry: entry.name)
        found = next((entry for entry in ordered if review_of(entry) is None), None)
    else:
        found = site.next()
    return {} if found is None else _sample(found)


def _sample(entry: Entry) -> Answer:
    """An image as the clients expect it. The path is none of this computer's."""
    name = download_name(entry)
    answer = {"id": entry.id, "name": name, "path": f"cdal/{name}", "bbox": [0, 0, 0, 0]}
    path = entry.inputs[0]
    if path.is_file() and len(entry.inputs) == 1 and path.stat().st_size <= _LARGEST_CHECKED:
        answer["checksum"] = f"SHA256:{_sha256(path)}"
    return answer


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _doubtful(site: Site, entry: Entry, size: tuple[int, int]) -> list[int]:
    """The part of a picture with the highest mean uncertainty, `[x, y, width, height]`.

    Parts lie side by side. Without an uncertainty it is the part in the middle.
    """
    shape = site.opener.about(entry).shape
    if len(shape) != 2:
        raise UserError(f"{entry.name} is a volume; parts are chosen of pictures only.")
    height, width = (
        max(1, min(n, most)) for n, most in zip((size[1], size[0]), shape, strict=True)
    )
    site.changes.need_same(entry)
    path = entry.file("uncertainty")
    if path is None:
        return [(shape[1] - width) // 2, (shape[0] - height) // 2, width, height]
    sums = []
    with open_image(path) as values:
        for top in range(0, shape[0] - height + 1, height):
            rows = values.rows(top, top + height)[0].sum(axis=0)
            count = shape[1] // width
            sums.append(rows[: count * width].reshape(count, width).sum(axis=1))
    row, column = np.unravel_index(int(np.argmax(sums)), np.shape(sums))
    return [int(column) * width, int(row) * height, width, height]
