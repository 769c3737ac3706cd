"""The server's own interface: models, predictions and jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from cdal.runtime.version import __version__
from cdal.serve.answers import Answer, job_answer, model_answer
from cdal.serve.asked import need_known, sampling_of, save_of
from cdal.serve.cases import Entry
from cdal.serve.forms import receive_form
from cdal.serve.jobs import Cancelled, Job
from cdal.serve.layers import ALL
from cdal.serve.refusals import unusable
from cdal.serve.sending import Sent, zipped
from cdal.serve.site import Site
from cdal.serve.uploads import Upload

_STEP = 0.2
"""Seconds between two looks at a job."""

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "The image: one file, the files of its channels, or "
                            "those of a DICOM series.",
                        },
                        "sampling": {
                            "type": "string",
                            "description": "Options of sampling as a JSON object, such as "
                            '{"votes": 5, "seed": 1}.',
                        },
                        "save": {
                            "type": "string",
                            "description": "What is saved, with commas: mask, probability, "
                            "uncertainty, votes, overlay, instances, geojson, rtstruct; or layers: "
                            "all of the first four that are possible for the image.",
                        },
                        "name": {"type": "string", "description": "Name of a DICOM series."},
                    },
                }
            }
        },
    }
}


def v1_routes(site: Site) -> APIRouter:
    """The routes for models, predictions and jobs."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/health", tags=["server"])
    def health() -> Answer:
        """Whether the server answers. No token is needed."""
        return {"status": "ok", "version": __version__}

    @routes.get("/models", tags=["models"])
    def models() -> Answer:
        """The models of the server."""
        return {
            "models": [model_answer(name, site.models.named(name)) for name in site.models.names]
        }

    @routes.post("/predict/{model}", tags=["models"], openapi_extra=_FORM)
    async def segment(request: Request, model: str, wait: bool = True) -> Response:
        """Segment an image.

        The reply is the result: a file, or a ZIP of several with `predictions.json`; nothing stays
        on the server. With `wait=false` it names a job and a case, which stays for a while.
        """
        site.models.named(model)
        upload, fields = await received(site, request, "file")
        try:
            _need_fields(fields)
            sampling = sampling_of(site, fields.get("sampling", [""])[-1])
            save = save_of(fields.get("save", ["mask"]))
            upload.kept = not wait
            job = site.submit(site.cases.of_upload(upload), model, sampling, save)
            if not wait:
                answer = {"job": job.id, "case": upload.id}
                return JSONResponse(answer, 202)
            entry = await result_of(site, request, job)
            return await run_in_threadpool(_sent, site, upload, entry, model, save)
        except BaseException:
            await run_in_threadpool(site.remove, upload.id)
            raise

    @routes.get("/jobs/{name}", tags=["jobs"])
    def job(name: str) -> Answer:
        """What has become of a job."""
        return job_answer(site.jobs.named(name), site.jobs)

    @routes.get("/jobs/{name}/events", tags=["jobs"])
    def events(name: str) -> StreamingResponse:
        """Progress of a job as server-sent events; the last one is final."""
        stream = _events(site, site.jobs.named(name))
        return StreamingResponse(stream, media_type="text/event-stream")

    @routes.delete("/jobs/{name}", tags=["jobs"])
    def cancel(name: str) -> Answer:
        """Cancel a job; one that is running ends at its next step."""
        found = site.jobs.named(name)
        site.jobs.cancel(found)
        return job_answer(found, site.jobs)

    return routes


_FIELDS = ("file", "sampling", "save", "name")


def _need_fields(fields: Collection[str]) -> None:
    if "file" in fields:
        raise unusable("file is text here; expected a file: curl -F file=@NAME, with the @.")
    need_known("the form", fields, _FIELDS)


async def received(
    site: Site, request: Request, *parts: str
) -> tuple[Upload, dict[str, list[str]]]:
    """Take the image of a form; returns its upload, and the other fields.

    Args:
        site: the server.
        request: the request.
        parts: names of the parts that are files.

    Raises:
        HTTPException: as `receive_form`, `Uploads.new` and `Site.take`.
    """
    upload = await run_in_threadpool(site.uploads.new)
    try:
        content_type = request.headers.get("content-type", "")
        form = await receive_form(content_type, request.stream(), upload.folder / "image", parts)
        await run_in_threadpool(site.take, upload, form.files, form.get("name"))
    except BaseException:
        await run_in_threadpool(site.remove, upload.id)
        raise
    return upload, form.fields


async def result_of(site: Site, request: Request, job: Job) -> Any:
    """Wait for the result of a job; if the client leaves, the job is cancelled.

    Raises:
        HTTPException: 409, it was cancelled.
        Exception: that of the job.
    """
    ended = asyncio.wrap_future(job.ended)
    try:
        while not ended.done():
            await asyncio.wait([ended], timeout=1.0)
            if not ended.done() and await request.is_disconnected():
                site.jobs.cancel(job)
    except asyncio.CancelledError:
        site.jobs.cancel(job)
        raise
    try:
        return ended.result()
    except Cancelled:
        raise HTTPException(409, "The computation was cancelled.") from None


def _sent(site: Site, upload: Upload, entry: Entry, model: str, save: Collection[str]) -> Response:
    """The results of an upload as a reply, after which it is deleted."""

    async def after() -> None:
        await run_in_threadpool(site.remove, upload.id)

    kinds = entry.found.files if ALL in save and entry.found else save
    paths = [site.file(entry, kind) for kind in kinds]
    if len(paths) == 1:
        return Sent(paths[0], paths[0].name, after)
    record = json.loads((upload.results / "predictions.json").read_text(encoding="utf-8"))
    for row in record.get("predictions", []):
        row |= {"input": upload.name, "model": model}  # and not where they are on the server
    files: dict[str, Any] = {path.name: path for path in paths}
    files["predictions.json"] = json.dumps(record, indent=1) + "\n"
    return Sent(zipped(upload.folder / "results.zip", files), f"{entry.stem}.zip", after)


async def _events(site: Site, job: Job) -> AsyncIterator[str]:
    """Events of a job whenever something has changed, until it ends."""
    before = ""
    while True:
        finished = job.finished
        answer = job_answer(job, site.jobs)
        text = json.dumps({**answer, "seconds": None})
        if text != before:
            before = text
            yield f"data: {json.dumps(answer)}\n\n"
        if finished:
            return
        await asyncio.sleep(_STEP)
