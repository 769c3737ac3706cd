"""The server's own interface: objects of pictures, and large pictures by tiles."""

from __future__ import annotations

import re

from fastapi import APIRouter, Response

from cdal.serve.answers import Answer
from cdal.serve.refusals import missing
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
        about = site.opener.about(site.entry(name))
        if about.kind == "volume":
            raise missing("A picture; this case is a volume, which")
        return shape_answer(about.shape)

    @routes.get("/{name}/tiles/{level}/{place}")
    def tile(name: str, level: int, place: str) -> Response:
        """One tile as JPEG; `place` is `COLUMN_ROW.jpg`, both in tiles from the top left."""
        match = _PLACE.fullmatch(place)
        if match is None:
            raise missing("The tile")
        entry = site.entry(name)
        tag = site.tag(entry)
        content = tile_of(
            entry, tag, level, int(match[1]), int(match[2]), site.opener, site.pyramids
        )
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(content, media_type="image/jpeg", headers=headers)

    return routes
