"""The server's own interface: objects of pictures, and large pictures by tiles."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from cdal.runtime.errors import UserError
from cdal.serve.answers import Answer
from cdal.serve.refusals import missing
from cdal.serve.sending import has_tag
from cdal.serve.site import Site
from cdal.serve.tiles import shape_answer, tile_of

_PLACE = re.compile(r"(\d{1,7})_(\d{1,7})\.jpg")


def picture_routes(site: Site) -> APIRouter:
    """The routes for pictures."""
    routes = APIRouter(prefix="/v1/cases", tags=["cases"])

    @routes.get("/{name}/objects")
    def objects(name: str) -> Response:
        """The objects of a picture's mask as GeoJSON polygons with holes, in pixels."""
        content = site.objects(site.entry(name)).read_bytes()
        return Response(content, media_type="application/geo+json")

    @routes.get("/{name}/tiles")
    def tiles(name: str) -> Answer:
        """Size of a picture, side of its tiles, and number of its levels; the last is full size."""
        entry = site.entry(name)
        about = site.opener.about(entry)
        if about.kind == "volume":
            raise UserError(
                f"{entry.name} is a volume; tiles are for pictures. Ask for its layers."
            )
        return shape_answer(about.shape)

    @routes.get("/{name}/tiles/{level}/{place}")
    def tile(request: Request, name: str, level: int, place: str) -> Response:
        """One tile as JPEG; `place` is `COLUMN_ROW.jpg`, both in tiles from the top left."""
        match = _PLACE.fullmatch(place)
        if match is None:
            raise missing("The tile")
        entry = site.entry(name)
        tag = site.tag(entry)
        headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
        if has_tag(request.headers, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        content = tile_of(
            entry, tag, level, int(match[1]), int(match[2]), site.opener, site.pyramids
        )
        return Response(content, media_type="image/jpeg", headers=headers)

    return routes
