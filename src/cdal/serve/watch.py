"""Counting and noting requests.

Neither a name, an address nor a value of a request is kept: they could tell of a patient, or hold
the token.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from datetime import datetime

from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdal.runtime.memory import held
from cdal.serve.guard import with_headers
from cdal.serve.site import Site

_LOG = logging.getLogger("cdal.serve")
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_LINES = 1000
"""Lines of the log that clients can ask for."""

_OTHER = "other"
"""Name of all routes that are not there, so that strangers cannot invent names."""


class Watch:
    """Counts the requests of an application, notes them in the log, and answers whatever fails.

    Args:
        app: the application.
        site: what it serves.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app = app
        self.registry = CollectorRegistry()
        self._lines: deque[str] = deque(maxlen=_LINES)
        labels = ("method", "route", "status")
        self._requests = Counter(
            "cdal_requests", "Requests that were answered.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "cdal_request_seconds",
            "Seconds until a request was answered.",
            ("route",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        for name, about, value in (
            ("cdal_jobs_waiting", "Computations that wait.", lambda: site.jobs.waiting),
            ("cdal_jobs_running", "Computations that are running.", lambda: site.jobs.running),
            ("cdal_uploads", "Uploads that are kept.", lambda: len(site.uploads)),
            ("cdal_memory_bytes", "Memory of the process.", _memory),
        ):
            Gauge(name, about, registry=self.registry).set_function(value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            _note(error)
            if not status:
                detail = "The server has a fault; its log says where. Please report it."
                await JSONResponse({"detail": detail}, 500)(scope, receive, with_headers(sending))
        finally:
            seconds = time.perf_counter() - began
            method, route = scope["method"], _route(scope)
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(route).observe(seconds)
            line = f"{method} {route} {status} {1000 * seconds:.0f} ms"
            self._lines.append(f"{datetime.now().isoformat(timespec='seconds')} {line}")
            _LOG.info(line)

    def last(self, count: int) -> list[str]:
        """The last lines of the log."""
        return list(self._lines)[-max(1, count) :]

    def text(self) -> bytes:
        """The counts in Prometheus' text form."""
        return generate_latest(self.registry)


def _route(scope: Scope) -> str:
    """The route of a request as it is declared, such as `/v1/cases/{name}`."""
    path = getattr(scope.get("route"), "path", "")
    return str(path) if path else _OTHER


def _memory() -> float:
    try:
        return (held("VmRSS") or 0.0) * 2**30
    except OSError:  # not Linux
        return 0.0


def _note(error: Exception) -> None:
    """Note where an error came from, without what it says: that may hold names from files."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("%s\n%s", type(error).__name__, where)
