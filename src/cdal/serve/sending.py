"""Replies with files. Every one has a Content-Length, and none is sent in chunks.

3D Slicer reads some replies from the raw socket, and takes the lengths of chunks for data.
"""

from __future__ import annotations

import zipfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

BYTES = "application/octet-stream"


def disposition(name: str) -> str:
    """Content-Disposition of a file, whose name may be in any script."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"


def as_file(content: bytes, name: str, media: str = BYTES) -> Response:
    """A reply with bytes that are saved under a name."""
    return Response(content, media_type=media, headers={"Content-Disposition": disposition(name)})


class Sent(FileResponse):
    """A file from the disk; `after` is called when it has been sent, or cannot be.

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
        super().__init__(path, media_type=media, headers={"Content-Disposition": disposition(name)})
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
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
