"""The server's own interface: cases, their layers and files."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cdal.runtime.errors import UserError
from cdal.serve.answers import Answer, case_answer
from cdal.serve.cases import Entry
from cdal.serve.reviews import review_answer, review_of, reviewed_of
from cdal.serve.site import Site
from cdal.serve.v1 import sampling_of, save_of


class Asked(BaseModel):
    """What is asked of a model for a case.

    Attributes:
        model: name of the model; the server's first if empty.
        sampling: options of sampling.
        save: what is saved.
    """

    model: str = ""
    sampling: dict[str, object] = {}
    save: list[str] = ["mask", "probability", "uncertainty"]


def case_routes(site: Site) -> APIRouter:
    """The routes for cases."""
    routes = APIRouter(prefix="/v1/cases", tags=["cases"])

    def said(entry: Entry, opened: bool) -> Answer:
        about = site.opener.known(entry)
        if opened and about is None:
            with suppress(UserError):  # asking for its image says what is wrong with it
                about = site.opener.about(entry)
        given = {site.models.named(name).name: name for name in site.models.names}
        review = review_of(entry)
        answer = None if review is None else review_answer(review)
        return case_answer(entry, about, answer, reviewed_of(entry, review), given)

    @routes.get("")
    def cases() -> Answer:
        """All cases: the lowest expected Dice first, then those without one.

        `shape` and `spacing` are null until a case has been opened: by asking for it alone.
        """
        return {
            "cases": [said(entry, False) for entry in site.cases.listed()],
            "order": "expected_dice",
        }

    @routes.get("/{name}")
    def case(name: str) -> Answer:
        """One case, with the shape and spacing of its image."""
        entry = site.entry(name)
        return said(entry, True)

    @routes.delete("/{name}")
    def remove(name: str) -> Answer:
        """Delete a case that was sent to the server. Others cannot be deleted."""
        site.remove(name)
        return {"id": name}

    @routes.post("/{name}/predict")
    def segment(name: str, asked: Asked) -> JSONResponse:
        """Segment a case; the reply names a job."""
        model = asked.model or next(iter(site.models.names), "")
        sampling = sampling_of(site, asked.sampling)
        job = site.submit(site.entry(name), model, sampling, save_of(asked.save))
        return JSONResponse({"job": job.id, "case": name}, 202)

    return routes
