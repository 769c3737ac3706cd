"""The routes that QuPath's extension for MONAI Label asks for outlines in parts of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from cdal.imaging.annotations.asap import asap_xml
from cdal.imaging.annotations.geojson import outlines
from cdal.imaging.formats import read_label
from cdal.imaging.image import need_size
from cdal.imaging.rows import Rows
from cdal.runtime.errors import UserError
from cdal.serve.answers import Answer
from cdal.serve.cases import Entry
from cdal.serve.forms import receive_form
from cdal.serve.monailabel import json_of, number_of, numbers_of
from cdal.serve.refusals import unusable
from cdal.serve.site import Site
from cdal.serve.uploads import Upload
from cdal.serve.v1 import result_of

_BAND = 256
"""Rows of a large picture that are read at a time."""


@dataclass(frozen=True)
class Part:
    """The part of a picture that is asked for, in pixels.

    Attributes:
        left, top: its corner.
        width, height: its size; 0 for the whole picture.
        least_area: area below which objects are left out.
    """

    left: int = 0
    top: int = 0
    width: int = 0
    height: int = 0
    least_area: float = 0.0


def qupath_routes(site: Site) -> APIRouter:
    """The routes below `/infer/wsi`."""
    routes = APIRouter(prefix="/infer", tags=["MONAI Label"])

    async def answer(request: Request, upload: Upload, model: str, part: Part) -> Response:
        several = len(site.models.named(model).header.classes) > 2
        save = ("mask",) if several else ("mask", "instances")
        job = site.submit(site.cases.of_upload(upload), model, None, save)
        found = await result_of(site, request, job)
        text = await run_in_threadpool(_outlined, site, found, part)
        return Response(text, media_type="application/xml")

    @routes.post("/wsi_v2/{model}")
    async def sent(request: Request, model: str, image: str = "") -> Response:
        """Outlines in a picture that is sent along, as ASAP's XML; from its own corner."""
        site.models.named(model)
        upload = await run_in_threadpool(site.uploads.new)
        try:
            kind = request.headers.get("content-type", "")
            folder = upload.folder / "image"
            form = await receive_form(kind, request.stream(), folder, ("file",))
            part = _part(json_of(form.get("wsi", "{}").encode()))
            await run_in_threadpool(site.take, upload, form.files)
            return await answer(request, upload, model, Part(least_area=part.least_area))
        finally:
            await run_in_threadpool(site.remove, upload.id)

    @routes.post("/wsi/{model}")
    async def of_server(
        request: Request, model: str, image: str = "", session_id: str = ""
    ) -> Response:
        """Outlines in a part of a picture of the server, as ASAP's XML; in the whole's pixels."""
        site.models.named(model)
        part = _part(json_of(await request.body()))
        entry = await run_in_threadpool(site.find, session_id or image)
        upload = await run_in_threadpool(site.uploads.new)
        try:
            await run_in_threadpool(_cut, site, entry, part, upload)
            return await answer(request, upload, model, part)
        finally:
            await run_in_threadpool(site.remove, upload.id)

    return routes


def _part(asked: Answer) -> Part:
    """The part that a request asks for.

    Raises:
        HTTPException: 422, it is not described as QuPath does, or not at full size.
    """
    left, top = numbers_of(asked, "location", 2)
    width, height = numbers_of(asked, "size", 2)
    least, level = (number_of(asked, name) for name in ("min_poly_area", "level"))
    if level != 0 or min(left, top, width, height) < 0:
        raise unusable("Expected a part of the picture at level 0, with numbers from 0.")
    return Part(left, top, width, height, least)


def _cut(site: Site, entry: Entry, part: Part, upload: Upload) -> None:
    """Write a part of a picture as an upload of its own.

    Raises:
        UserError: it is a volume, the part lies outside, or it is too large.
    """
    with site.opener.open(entry) as rows:
        if len(rows.shape) != 2:
            raise UserError(f"{entry.name} is a volume; QuPath asks for pictures.")
        height, width = rows.shape
        bottom = min(height, part.top + (part.height or height))
        right = min(width, part.left + (part.width or width))
        if part.left >= right or part.top >= bottom:
            raise UserError(f"{entry.name} has {width} x {height} pixels; the part lies outside.")
        path = upload.folder / "image" / f"{entry.stem}.tif"
        pixels = _pixels(rows, path, part, bottom, right)
        kind = np.float32 if rows.stored.kind == "f" else rows.stored
    colours = len(pixels) >= 3
    array = np.moveaxis(pixels[:3], 0, -1) if colours else pixels[0]
    tifffile.imwrite(path, array.astype(kind), photometric="rgb" if colours else "minisblack")
    upload.name, upload.inputs = path.name, (path,)


def _pixels(rows: Rows, path: Path, part: Part, bottom: int, right: int) -> np.ndarray:
    """The pixels of a part, `[C, h, w]`."""
    size = (bottom - part.top, right - part.left)
    need_size(path, (3, *size), 14)
    slide: Any = getattr(rows, "slide", None)
    if slide is not None:
        region = slide.read_region((part.left, part.top), 0, (size[1], size[0]))
        array = np.asarray(region, np.float32)
        alpha = array[..., 3:] / 255
        return np.moveaxis(array[..., :3] * alpha + 255 * (1 - alpha), -1, 0)
    bands = [
        rows.rows(top, min(bottom, top + _BAND))[:, :, part.left : right]
        for top in range(part.top, bottom, _BAND)
    ]
    return np.concatenate(bands, axis=1)


def _outlined(site: Site, entry: Entry, part: Part) -> str:
    """The objects of a mask as XML; of one class, those that touch are parted."""
    instances = entry.file("instances")
    label = read_label(instances or site.file(entry, "mask")).array[0]

    def read(start: int, stop: int) -> np.ndarray:
        return label[start:stop]

    found = outlines(read, (label.shape[0], label.shape[1]), instances is not None)
    return asap_xml(found, site.classes(entry), (part.left, part.top), part.least_area)
