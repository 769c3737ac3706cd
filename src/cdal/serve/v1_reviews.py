"""The server's own interface: verdicts, corrected masks, and what to look at next."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from cdal.serve.answers import Answer
from cdal.serve.asked import Body
from cdal.serve.forms import receive_mask
from cdal.serve.reviews import review_answer
from cdal.serve.site import Site

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}}
            for media in ("application/octet-stream", "image/png")
        },
    }
}


class Judged(Body):
    """A verdict on a case.

    Attributes:
        verdict: whether the mask is right, the corrected mask is, or the case is not to be used.
    """

    verdict: Literal["accept", "fix", "reject"]


def review_routes(site: Site) -> APIRouter:
    """The routes for reviews."""
    routes = APIRouter(prefix="/v1", tags=["reviews"])

    @routes.put("/cases/{name}/review")
    def review(name: str, judged: Judged) -> Answer:
        """Save a verdict on a case: accept, fix or reject.

        `fix` says that a corrected mask is right; it has to be saved before.
        """
        return review_answer(site.judge(site.entry(name), judged.verdict))

    @routes.put("/cases/{name}/correction", openapi_extra=_BODY)
    async def correction(request: Request, name: str) -> Answer:
        """Save a corrected mask; the verdict is then `fix`.

        The body is NIfTI on the grid of the layer `image`, or for pictures a PNG of the numbers of
        the classes: the bare bytes of the file (`curl -T mask.nii.gz ADDRESS`), or a form with one
        file. The mask is written in the format of the image, as `reviewed/NAME`. The reply has the
        Dice of each class with the prediction.
        """
        entry = await run_in_threadpool(site.entry, name)
        with site.scratch() as folder:
            kind = request.headers.get("content-type", "")
            path = await receive_mask(kind, request.stream(), folder)
            review = await run_in_threadpool(site.correct, entry, path)
        return review_answer(review)

    @routes.get("/next")
    def following() -> Answer:
        """The case to review next: the lowest expected Dice first, one patient after the other."""
        entry = site.next()
        return {"case": None if entry is None else entry.id}

    return routes
