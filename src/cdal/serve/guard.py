"""What stands before the application: who may ask, how much, how slowly, and what browsers may do.

- The Host has to be one of ours, so that no other page can lead a browser here by a name of its own
  (DNS rebinding).
- A request that changes something and comes from a page has to come from ours.
- With a token, every request has to bring it: `Authorization: Bearer TOKEN`, or the cookie that
  `/?token=TOKEN` sets.
- Bodies have a most number of bytes, and a least speed.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import time
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdal.serve.refusals import too_large, too_slow
from cdal.serve.settings import Serving, is_here

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing from another host, and no script in the page's text."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Headers of every reply."""

_OPEN = ("/v1/health", "/healthz", "/auth/", "/auth/token")
"""Routes that need no token: they say nothing, or they are where a client brings it."""

_SAFE = ("GET", "HEAD", "OPTIONS")
_MOST_JSON = 2**20
"""Most bytes of a body that is neither a form with files nor a corrected mask."""

_COOKIE = "cdal"
_GRACE, _SLOWEST = 30.0, 2**14
"""Seconds that any body may take, and bytes a second that a longer one has to bring."""


class Guard:
    """The guard of an application.

    Args:
        app: the application.
        settings: the server's options.
    """

    def __init__(self, app: ASGIApp, settings: Serving) -> None:
        self.app, self.settings = app, settings
        self._cookie = secrets.token_urlsafe(24)  # so that the token itself stays with the user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            reply = self._welcome(scope)
            bounded = self._bounded(scope, receive)
        except HTTPException as error:
            reply = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
        if reply is not None:
            await reply(scope, receive, with_headers(send))
        else:
            await self.app(scope, bounded, with_headers(send))

    def _welcome(self, scope: Scope) -> Response | None:
        """Refuse strangers. Returns a reply to those who bring the token in the address."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise HTTPException(
                403,
                "The server is not known by this name. Ask it by its address, or start it with "
                "--names NAME.",
            )
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in _SAFE and urlsplit(origin).netloc != host:
            raise HTTPException(403, "Pages of other servers may not change anything here.")
        if "\0" in scope["path"]:  # of which the file system, and Starlette, make an error
            raise HTTPException(400, "The address holds a zero, which no name can have.")
        if self.settings.token is None or scope["path"] in _OPEN:
            return None
        if scope["path"] == "/" and scope["method"] == "GET":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if self._is_token(query.get("token", [""])[-1]):
                return self._signed_in(scope)
        if not self._brings_token(headers):
            raise HTTPException(
                401,
                "This server asks for its token: Authorization: Bearer TOKEN; in a browser, open "
                "the address /?token=TOKEN once.",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in (*(known.lower() for known in self.settings.names), "localhost"):
            return True
        try:  # an address is nobody's name
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == self.settings.host.lower()
        return address.is_loopback or not is_here(self.settings.host)

    def _is_token(self, text: str) -> bool:
        token = self.settings.token or ""
        return hmac.compare_digest(text.encode("utf-8", "replace"), token.encode())

    def _brings_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._is_token(given.strip())
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        value = "" if found is None else found.value
        return hmac.compare_digest(value.encode("utf-8", "replace"), self._cookie.encode())

    def _signed_in(self, scope: Scope) -> Response:
        """Set the cookie, and take the token out of the address."""
        reply = RedirectResponse("/", 303)
        secure = scope.get("scheme") == "https"
        reply.set_cookie(_COOKIE, self._cookie, httponly=True, samesite="strict", secure=secure)
        return reply

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """The body of a request, with its limits.

        Raises:
            HTTPException: 413, its header says that it is too large.
        """
        headers = Headers(scope=scope)
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        files = form or scope["path"].endswith("/correction")
        most = self.settings.most_bytes if files else _MOST_JSON
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise too_large(most)
        return _Body(receive, most)


class _Body:
    """A body as it comes; it is cut off if it is too long or too slow."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._seen, self._ended = 0, False
        self._began = time.monotonic()

    async def __call__(self) -> Message:
        if self._ended:  # what comes now is that the client leaves
            return await self._receive()
        left = self._began + _GRACE + self._seen / _SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.0))
        except asyncio.TimeoutError:
            raise too_slow(
                f"The body of the request comes too slowly: expected {_SLOWEST / 2**10:g} KiB a "
                f"second after the first {_GRACE:g} s."
            ) from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._seen > self._most:
                raise too_large(self._most)
        return message


def with_headers(send: Send) -> Send:
    """Send replies with the headers that all have."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", ())}
            message = {**message, "headers": [*message.get("headers", ()), *_lacking(given)]}
        await send(message)

    return sending


def _lacking(given: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    return [(name, value) for name, value in pairs if name not in set(given)]
