"""Replies with files. Every one has a Content-Length, and none is sent in chunks.

3D Slicer reads some replies from the raw socket, and takes the lengths of chunks for data.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

BYTES = "application/octet-stream"
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)
"""One range of bytes; for several the whole file is sent."""


def disposition(name: str) -> str:
    """Content-Disposition of a file, whose name may be in any script."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"


def as_file(content: bytes, name: str, media: str = BYTES) -> Response:
    """A reply with bytes that are saved under a name."""
    return Response(content, media_type=media, headers={"Content-Disposition": disposition(name)})


def has_tag(headers: Headers, tag: str) -> bool:
    """Whether a client says that it has what a tag (`ETag`) stands for (RFC 9110, 13.1.2)."""
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return tag in known or known == ["*"]


def _part(header: str) -> float | None:
    """Where a range begins that a client wants; infinite if it is empty, `None` if it is none."""
    first, last = match.groups() if (match := _RANGE.fullmatch(header)) else ("", "")
    if not first:
        return None if not last else 0 if int(last) else math.inf
    return None if last and int(last) < int(first) else int(first)


class Sent(FileResponse):
    """A file from the disk; `after` is called when it has been sent, or cannot be.

    It is not sent again to a client that has it. A header `Range` that is none is passed over (RFC
    9110, 14.2); one that lies outside is refused (416).

    Args:
        path: the file.
        name: name under which it is saved.
        after: called at the end, if given.
        media: its media type.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        after: Callable[[], Awaitable[object]] | None = None,
        media: str = BYTES,
    ) -> None:
        headers = {"Content-Disposition": disposition(name), "Cache-Control": "private, no-cache"}
        super().__init__(path, media_type=media, headers=headers, stat_result=path.stat())
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            given = Headers(scope=scope)
            if has_tag(given, self.headers["etag"]):
                kept = {name: self.headers[name] for name in ("etag", "cache-control")}
                await Response(status_code=304, headers=kept)(scope, receive, send)
                return
            part, size = _part(given.get("range", "")), int(self.headers["content-length"])
            if part is None:
                without = [pair for pair in scope["headers"] if pair[0] != b"range"]
                await super().__call__({**scope, "headers": without}, receive, send)
            elif not part < size:
                detail = {"detail": f"The file has {size} bytes; the range lies outside."}
                outside = {"Content-Range": f"bytes */{size}"}
                await JSONResponse(detail, 416, outside)(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            if self._after is not None:
                await self._after()


def zipped(path: Path, files: Mapping[str, Path | str]) -> Path:
    """Write files, or texts, into a ZIP archive under their names; results are compressed as is."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            if isinstance(content, Path):
                archive.write(content, name)
            else:
                archive.writestr(name, content)
    return path
