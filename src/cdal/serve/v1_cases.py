"""The server's own interface: cases, their layers and files."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from cdal.runtime.errors import UserError
from cdal.serve.answers import Answer, Known, case_answer
from cdal.serve.asked import Body, sampling_of, save_of
from cdal.serve.cases import Entry
from cdal.serve.refusals import stays
from cdal.serve.reviews import fault_of_review, review_answer, review_of, reviewed_of
from cdal.serve.site import Site


class Asked(Body):
    """What is asked of a model for a case.

    Attributes:
        model: name of the model; the server's first if empty.
        sampling: options of sampling.
        save: what is saved.
    """

    model: str = ""
    sampling: dict[str, object] = Field(default_factory=dict)
    save: list[str] = Field(default_factory=lambda: ["mask", "probability", "uncertainty"])


def case_routes(site: Site) -> APIRouter:
    """The routes for cases."""
    routes = APIRouter(prefix="/v1/cases", tags=["cases"])

    def said(entry: Entry, opened: bool) -> Answer:
        about = site.opener.known(entry)
        if opened and about is None:
            with suppress(UserError):  # asking for its image says what is wrong with it
                about = site.opener.about(entry)
        given = {site.models.named(name).name: name for name in site.models.names}
        review, changed = review_of(entry), site.changes.changed(entry)
        known = Known(
            about,
            None if review is None else review_answer(review),
            reviewed_of(entry, review),
            changed,
            site.spoken(site.message(entry, changed)),
            site.spoken(fault_of_review(entry)),
        )
        return case_answer(entry, known, given)

    @routes.get("")
    def cases() -> Answer:
        """All cases: the lowest expected Dice first, then those without one.

        `shape` and `spacing` are null until a case has been opened: by asking for it alone.
        `state` is new, segmented, failed, or changed: the image is not the one that was segmented.
        `faults` tells which files of the server cannot be read.
        """
        return {
            "cases": [said(entry, False) for entry in site.cases.listed()],
            "order": "expected_dice",
            "faults": [site.spoken(fault) for fault in site.cases.faults],
        }

    @routes.get("/{name}")
    def case(name: str) -> Answer:
        """One case, with the shape and spacing of its image."""
        entry = site.entry(name)
        return said(entry, True)

    @routes.delete("/{name}")
    def remove(name: str) -> Answer:
        """Delete a case that was sent to the server. Others cannot be deleted."""
        if site.entry(name).origin != "upload":
            raise stays()
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
