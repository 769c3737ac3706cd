"""The web application of a server."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from cdal.inference.predict import explained
from cdal.runtime.errors import UserError
from cdal.runtime.version import __version__
from cdal.serve.site import Site
from cdal.serve.v1 import v1_routes
from cdal.serve.v1_cases import case_routes

_WEB = Path(__file__).parent / "web"


def create_app(site: Site) -> FastAPI:
    """The application of a site, for any ASGI server.

    Args:
        site: the site. The caller closes it.
    """
    # QuPath's extension sends JSON without saying that it is JSON.
    app = FastAPI(
        title="cDAL",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
    )
    app.include_router(v1_routes(site))
    app.include_router(case_routes(site))
    _answer_errors(app, site)
    app.mount("/", StaticFiles(directory=_WEB, html=True))
    return app


def _answer_errors(app: FastAPI, site: Site) -> None:
    """Give every error as JSON: `{"detail": sentence}`."""

    @app.exception_handler(UserError)
    async def _(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": site.spoken(str(error))}, 422)

    @app.exception_handler(StarletteHTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        told = [
            f"{'.'.join(str(part) for part in one['loc'][1:]) or 'the body'}: {one['msg']}"
            for one in error.errors()
        ]
        return JSONResponse({"detail": "; ".join(told)[:500]}, 422)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": site.spoken(explained("The request", error))}, 500)
