"""Sessions and inference, as MONAI Label's clients ask for them.

Slicer's client reads the reply of an inference from the raw socket: it must have a Content-Length,
or the lengths of chunks become voxels.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from cdal.evaluation.review.opening import read_mask
from cdal.imaging.formats import write_label
from cdal.imaging.image import Image
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.text import printable
from cdal.serve.answers import Answer
from cdal.serve.asked import sampling_of
from cdal.serve.cases import Entry
from cdal.serve.forms import Form, receive_form
from cdal.serve.monailabel import json_of
from cdal.serve.opened import files_of_entry
from cdal.serve.refusals import unusable
from cdal.serve.sending import as_file
from cdal.serve.site import Site
from cdal.serve.uploads import Upload
from cdal.serve.v1 import received, result_of

_SUFFIXES = (".nrrd", ".nii.gz", ".nii", ".mha")
"""Formats of the reply; the first if the client does not say."""

_SAVE = ("mask", "uncertainty")


def infer_routes(site: Site) -> APIRouter:
    """The routes for sessions and inference."""
    routes = APIRouter(tags=["MONAI Label"])

    @routes.put("/session/")
    async def begin(request: Request, uncompress: bool = False, expiry: int = 0) -> Answer:
        """Take an image for a session. It expires as all uploads do, whatever `expiry` says."""
        if uncompress:
            raise unusable("Archives are not unpacked here. Send the files of the image.")
        upload, _ = await received(site, request, "files")
        upload.kept = True
        return {"session_id": upload.id, "session_info": _session(site, upload)}

    @routes.get("/session/{name}")
    def session(name: str) -> Answer:
        """A session that is not over."""
        return _session(site, site.uploads.named(name))

    @routes.delete("/session/{name}")
    def end(name: str) -> Answer:
        """End a session."""
        answer = _session(site, site.uploads.named(name))
        site.remove(name)
        return answer

    @routes.post("/infer/{model}")
    async def infer(
        request: Request, model: str, image: str = "", session_id: str = "", output: str = ""
    ) -> Response:
        """Segment the image of a session, one of the server, or one that is sent along.

        The reply has two parts: `params` (JSON) and `image` (the mask). `output` chooses one:
        `json` or `image`.
        """
        site.models.named(model)
        upload = await run_in_threadpool(site.uploads.new)
        try:
            form = await _form(request, upload)
            if session_id:
                entry = site.cases.of_upload(site.uploads.named(session_id))
            elif form.named("file"):
                await run_in_threadpool(site.take, upload, form.named("file"))
                entry = site.cases.of_upload(upload)
            else:
                entry = await run_in_threadpool(site.find, image)
            params = json_of(form.get("params", "{}").encode())
            known = {field.name for field in fields(Sampling)}
            options = {name: value for name, value in params.items() if name in known}
            job = site.submit(entry, model, sampling_of(site, options), _SAVE)
            found = await result_of(site, request, job)
            suffix = str(params.get("result_extension") or _SUFFIXES[0])
            name, content, label = await run_in_threadpool(_mask, site, found, suffix)
            told = _told(found, label, job.seconds)
        finally:
            await run_in_threadpool(site.remove, upload.id)
        if output == "json":
            return JSONResponse(told)
        if output in ("image", "dicom_seg"):
            return as_file(content, name)
        return two_parts(told, name, content)

    return routes


def two_parts(params: Answer, name: str, content: bytes) -> Response:
    """A reply of two parts, with its length: JSON called `params`, and a file called `image`."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="'
    body = (
        f'{head}params"\r\nContent-Type: application/json\r\n\r\n{json.dumps(params)}\r\n'
        f'{head}image"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    whole = body.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return Response(whole, media_type=f"multipart/form-data; boundary={boundary}")


async def _form(request: Request, upload: Upload) -> Form:
    """The form of an inference; empty if the request has none."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        return Form()
    return await receive_form(kind, request.stream(), upload.folder / "image", ("file", "label"))


def _session(site: Site, upload: Upload) -> Answer:
    return {
        "name": upload.id,
        "image": printable(upload.name),
        "meta": {},
        "expiry": int(60 * site.settings.idle),
    }


def _mask(site: Site, entry: Entry, suffix: str) -> tuple[str, bytes, np.ndarray]:
    """The mask of a case on the grid of its image: a file name, its content, and the classes."""
    with site.opener.open(entry) as image, site.scratch() as folder:
        if not isinstance(image, Image):
            raise UserError(f"{entry.name} is too large to be sent as a whole.")
        label = read_mask(files_of_entry(entry, site.opener.channels), image)
        like = replace(image, suffix=suffix if suffix in _SUFFIXES else _SUFFIXES[0], header=None)
        path: Path = write_label(folder / "mask", label, like)
        return f"mask{like.suffix}", path.read_bytes(), label


def _told(entry: Entry, label: np.ndarray, seconds: float) -> Answer:
    """What is told of a mask. Slicer gives names in the order of the values that are in it."""
    found = entry.found
    assert found is not None  # it was segmented
    present = set(np.unique(label).tolist())
    return {
        "label_names": {one.name: one.number for one in found.classes if one.number in present},
        "cdal": {
            "expected_dice": {one.name: one.dice for one in found.classes},
            "volume": {one.name: one.volume for one in found.classes},
            "unit": found.unit,
            "verdict": found.verdict,
            "warnings": list(found.warnings),
            "seconds": round(seconds, 3),
        },
    }
