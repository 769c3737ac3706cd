"""The server's own interface: training on reviewed cases."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from cdal.serve.answers import Answer
from cdal.serve.asked import Body
from cdal.serve.site import Site


class Wanted(Body):
    """A training.

    Attributes:
        model: name of the model to train further; the server's first if empty.
        minutes: how long it may train.
        name: name of the new model; made from that of the model if empty.
    """

    model: str = ""
    minutes: float = 10.0
    name: str = ""


def training_routes(site: Site) -> APIRouter:
    """The routes for trainings."""
    routes = APIRouter(prefix="/v1/training", tags=["training"])

    @routes.post("")
    def start(wanted: Wanted) -> JSONResponse:
        """Train a model further on what was accepted or corrected, in the background."""
        model = wanted.model or next(iter(site.models.names), "")
        site.training.start(model, wanted.minutes, wanted.name)
        return JSONResponse(site.training.answer(), 202)

    @routes.get("")
    def training() -> Answer:
        """What has become of the last training: its learning curve, and both models compared.

        `state` is idle, running, stopping, done, failed or stopped. `result` is null until it is
        done, and if there were too few reviewed cases to hold some out.
        """
        return site.training.answer()

    @routes.delete("")
    def stop() -> Answer:
        """Tell the training to end. It is `stopping`, until it has finished its step."""
        site.training.stop()
        return site.training.answer()

    @routes.post("/adopt")
    def adopt(anyway: bool = False) -> Answer:
        """Make the new model one more model of the server; no other is replaced.

        Only a model that is better on held-out cases is adopted, unless `anyway` is true.
        """
        return {"model": site.training.adopt(anyway)}

    return routes
