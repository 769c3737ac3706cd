"""The images and labels of the server, as MONAI Label's clients ask for and send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from cdal.imaging.annotations import annotation_format
from cdal.imaging.formats import SUFFIXES, read_label
from cdal.serve.answers import Answer
from cdal.serve.cases import Entry
from cdal.serve.forms import receive_form
from cdal.serve.layers import Wanted, layer_of, path_of
from cdal.serve.refusals import missing, unusable
from cdal.serve.reviews import review_of, reviewed_of
from cdal.serve.sending import Sent, as_file
from cdal.serve.site import Site
from cdal.serve.v1 import received

_KINDS = {"original": "mask", "final": "reviewed"}
"""Our kind of label for each of the clients' tags."""


def store_routes(site: Site) -> APIRouter:
    """The routes below `/datastore`."""
    routes = APIRouter(prefix="/datastore", tags=["MONAI Label"])

    @routes.get("/")
    def listed(output: str = "") -> Answer:
        """All images and their labels (`output=all`), or their number."""
        entries = site.cases.listed()
        if output != "all":
            done = sum("final" in labels_of_case(entry) for entry in entries)
            return {"total": len(entries), "completed": done}
        return {"objects": {entry.id: _object(entry) for entry in entries}}

    async def take(request: Request, image: str = "") -> Answer:
        """Take an image, which is kept for a while under the name that the client gives it."""
        upload, _ = await received(site, request, "file")
        upload.kept = True
        name = image or upload.id
        await run_in_threadpool(site.call, upload, name)
        return {"image": name}

    routes.add_api_route("/", take, methods=["PUT"], name="take an image")
    routes.add_api_route("/image", take, methods=["PUT"], name="take an image by QuPath")

    @routes.head("/image")
    def known(image: str) -> Response:
        """Whether there is an image of this name."""
        site.find(image)
        return Response()

    @routes.get("/image")
    def image_file(image: str) -> Response:
        """An image; a series, or channels in files of their own, as one NIfTI file."""
        entry = site.find(image)
        if len(entry.inputs) == 1 and entry.inputs[0].is_file():
            return Sent(entry.inputs[0], entry.inputs[0].name)
        layer = layer_of(
            entry, Wanted("image", packed=True), path_of(entry, "image", None), site.opener
        )
        return as_file(layer.content, download_name(entry))

    @routes.get("/label")
    def label_file(label: str, tag: str = "final") -> Response:
        """A mask: the model's (`original`), or the corrected one (`final`)."""
        entry = site.find(label)
        if tag not in labels_of_case(entry):
            raise missing(f"A label {tag!r:.40} of this image")
        site.changes.need_same(entry)
        kind = _KINDS[tag]
        path = path_of(entry, kind, reviewed_of(entry, review_of(entry)))
        layer = layer_of(entry, Wanted(kind, packed=True), path, site.opener)
        return as_file(layer.content, layer.name)

    @routes.put("/label")
    async def save(request: Request, image: str, tag: str = "final") -> Answer:
        """Save a corrected mask: a label image, or outlines in ASAP's XML."""
        entry = await run_in_threadpool(site.find, image)
        with site.scratch() as folder:
            kind = request.headers.get("content-type", "")
            form = await receive_form(kind, request.stream(), folder, ("label",))
            if len(form.files) != 1:
                raise unusable("Expected one file, the part `label`.")
            path = form.files[0].path
            numbers = await run_in_threadpool(_numbers, path, form.get("params"))
            await run_in_threadpool(site.correct, entry, path, numbers)
        return {"image": image, "label": image}

    return routes


def labels_of_case(entry: Entry) -> dict[str, Answer]:
    """The labels of a case by their tags, as the clients expect them."""
    found = {}
    if entry.file("mask"):
        found["original"] = {"ext": "", "info": {"params": {"label_names": _names(entry)}}}
    if reviewed_of(entry, review_of(entry)) is not None:
        found["final"] = {"ext": "", "info": {"params": {"label_names": _names(entry)}}}
    return found


def _names(entry: Entry) -> dict[str, int]:
    classes = () if entry.found is None else entry.found.classes
    return {found.name: found.number for found in classes}


def _object(entry: Entry) -> Answer:
    name = download_name(entry)
    suffix = next((known for known in SUFFIXES if name.lower().endswith(known)), "")
    about: Answer = {"name": name}
    if entry.found is not None and entry.found.dice is not None:
        about["expected_dice"] = entry.found.dice
    return {"image": {"ext": suffix, "info": about}, "labels": labels_of_case(entry)}


def download_name(entry: Entry) -> str:
    """File name of an image as it is sent: a series, and several channels, are sent as NIfTI."""
    if len(entry.inputs) == 1 and entry.inputs[0].is_file():
        return entry.name
    return f"{entry.stem}.nii.gz"


def _numbers(path: Path, params: str) -> dict[int, str] | None:
    """Name of each number in a label image, by what the client says of its segments.

    `idx` is the place of a segment in Slicer's list. Slicer leaves out some (background, scribbles)
    and numbers those that are left from 1, whatever their `idx` is.

    Raises:
        HTTPException: 422, what it says is no JSON.
    """
    try:
        content = json.loads(params or "{}")
    except (ValueError, RecursionError) as error:
        raise unusable(f"params: expected a JSON object; {error}.") from error
    listed = content.get("label_info") if isinstance(content, Mapping) else None
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        return None
    names = [str(one["name"]) for one in listed if "name" in one]
    places = [one.get("idx") for one in listed if "name" in one]
    if not names or len(names) != len(set(names)):
        return None
    highest = _highest(path)
    if highest is None:
        return None
    if highest <= len(names) or not all(isinstance(place, int) for place in places):
        return dict(enumerate(names, start=1))
    return dict(zip(places, names, strict=True))


def _highest(path: Path) -> int | None:
    """Highest number in a label image; `None` for outlines and segments, which have names."""
    return None if annotation_format(path) else int(read_label(path).array.max(initial=0))
