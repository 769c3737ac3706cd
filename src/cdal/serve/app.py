"""The web application of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from cdal.runtime.errors import UserError
from cdal.runtime.text import printable
from cdal.runtime.version import __version__
from cdal.serve.docs import interface_page
from cdal.serve.guard import Guard
from cdal.serve.monailabel import monailabel_routes
from cdal.serve.monailabel_infer import infer_routes
from cdal.serve.monailabel_store import store_routes
from cdal.serve.qupath import qupath_routes
from cdal.serve.site import Site
from cdal.serve.v1 import v1_routes
from cdal.serve.v1_cases import case_routes
from cdal.serve.v1_layers import layer_routes
from cdal.serve.v1_pictures import picture_routes
from cdal.serve.v1_reviews import review_routes
from cdal.serve.v1_training import training_routes
from cdal.serve.watch import Watch

_WEB = Path(__file__).parent / "web"


def create_app(site: Site) -> ASGIApp:
    """The application of a site, for any ASGI server.

    Args:
        site: the site. The caller closes it.
    """
    app = _routes(site)
    watch = Watch(Guard(app, site.settings), site)

    @app.get("/logs/", tags=["MONAI Label"])
    def logs(lines: int = 300) -> PlainTextResponse:
        """The last requests: when, which route, how it went. No name or value is in it."""
        return PlainTextResponse("".join(f"{line}\n" for line in watch.last(lines)))

    @app.get("/metrics", tags=["server"])
    def metrics() -> Response:
        """Counts of requests, jobs and uploads, in Prometheus' text form."""
        return Response(watch.text(), media_type="text/plain; version=0.0.4")

    app.mount("/", StaticFiles(directory=_WEB, html=True))
    return watch


def _routes(site: Site) -> FastAPI:
    # QuPath's extension sends JSON without saying that it is JSON.
    app = FastAPI(
        title="cDAL",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
    )
    app.include_router(v1_routes(site))
    for routes in (
        *(case_routes, layer_routes, review_routes, picture_routes, training_routes),
        *(monailabel_routes, infer_routes, store_routes, qupath_routes),
    ):
        app.include_router(routes(site))

    @app.get("/healthz", tags=["server"])
    def health() -> dict[str, str]:
        """Whether the server answers. No token is needed."""
        return {"status": "ok", "version": __version__}

    @app.get("/docs", include_in_schema=False)
    def interface() -> HTMLResponse:
        return HTMLResponse(interface_page(app.openapi()))

    _answer_errors(app, site)
    return app


def _answer_errors(app: FastAPI, site: Site) -> None:
    """Give every error as JSON: `{"detail": sentence}`."""

    @app.exception_handler(UserError)
    async def _(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": site.spoken(str(error))}, 422)

    @app.exception_handler(StarletteHTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        detail = printable(site.spoken(str(error.detail)))
        return JSONResponse({"detail": detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        told = "; ".join(_told(one) for one in error.errors())
        return JSONResponse({"detail": printable(told[:500])}, 422)


def _told(error: dict[str, Any]) -> str:
    """What is wrong with a part of a request, in words."""
    place = [str(part)[:40] for part in error["loc"][1:]]
    if error["type"] == "json_invalid":
        why, at = error.get("ctx", {}).get("error", ""), "".join(place)
        return f"the body: expected a JSON object; {why} at character {at}"
    return f"{'.'.join(place) or 'the body'}: {error['msg']}"
