"""The server's own interface: layers of cases for the browser, and their files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cdal.serve.layers import Wanted, layer_of, path_of, tag_of
from cdal.serve.refusals import missing
from cdal.serve.reviews import review_of, reviewed_of
from cdal.serve.sending import Sent, has_tag
from cdal.serve.site import Site


def layer_routes(site: Site) -> APIRouter:
    """The routes for layers and files."""
    routes = APIRouter(prefix="/v1/cases", tags=["cases"])

    @routes.get("/{name}/layers/{kind}")
    def layer(
        request: Request,
        name: str,
        kind: str,
        number: Annotated[int, Query(alias="class")] = 1,
        vote: int = 0,
        packed: bool | None = None,
    ) -> Response:
        """A layer for the browser: image, mask, probability, uncertainty, votes or reviewed.

        Of volumes it is NIfTI on the image's grid, of pictures PNG. `class` chooses the class of a
        probability, `vote` the vote of a picture (from 0; volumes have all votes on their fourth
        axis). Labels and small volumes are compressed, unless `packed` says otherwise.
        """
        entry, wanted = site.entry(name), Wanted(kind, number, vote, packed)
        if kind != "image":
            site.changes.need_same(entry)
        reviewed = reviewed_of(entry, review_of(entry)) if kind == "reviewed" else None
        path = path_of(entry, kind, reviewed)
        tag = f'"{tag_of(entry, wanted, path)}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if has_tag(request.headers, tag):
            return Response(status_code=304, headers=headers)
        made = layer_of(entry, wanted, path, site.opener)
        return Response(made.content, media_type=made.media, headers=headers)

    @routes.get("/{name}/files/{kind}")
    def file(name: str, kind: str) -> Response:
        """A result as `cdal predict` wrote it, byte for byte; the image, or the corrected mask.

        They are called `image` and `reviewed`; a result as in the case's `files`.
        """
        entry = site.entry(name)
        if kind == "reviewed":
            reviewed = reviewed_of(entry, review_of(entry))
            if reviewed is None:
                raise missing("A corrected mask of this case")
            return Sent(reviewed, reviewed.name)
        if kind == "image":
            if not entry.inputs[0].is_file():
                raise missing("An image in one file")
            return Sent(entry.inputs[0], entry.inputs[0].name)
        path = site.file(entry, kind)
        return Sent(path, path.name)

    return routes
