"""A stand-in for the Hugging Face hub: the few requests that push and download make."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_no_one_may_read_this"


@dataclass
class Hub:
    """What the stand-in holds, and what it was asked for.

    Attributes:
        address: where it listens.
        files: by repository, branch or commit, and name.
        asked: method and path of each request.
        tokens: tokens that came with the requests.
        pretended: size that is told instead of the right one.
    """

    address: str = ""
    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    pretended: int | None = None

    def commit(self, repository: str, branch: str, files: dict[str, bytes]) -> str:
        """Add files to a branch."""
        branches = self.files.setdefault(repository, {})
        content = {**branches.get(branch, {}), **files}
        known = "".join(
            f"{name}{hashlib.sha1(content[name]).hexdigest()}" for name in sorted(content)
        )
        commit = hashlib.sha1(known.encode()).hexdigest()
        branches[branch] = branches[commit] = content
        return commit

    def commit_of(self, repository: str, revision: str) -> str:
        """The commit of a branch."""
        branches = self.files[repository]
        return next(
            name for name in branches if len(name) == 40 and branches[name] == branches[revision]
        )


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (its own name)
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._file(with_content=False)

    def do_GET(self) -> None:
        self._file(with_content=True)

    def do_PUT(self) -> None:
        self._note()
        self.hub.uploaded[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer(200)

    def do_POST(self) -> None:
        self._note()
        body = self._body()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            self.hub.files.setdefault(repository, {})
            if asked.get("visibility") == "private" or asked.get("private"):
                self.hub.private.add(repository)
            self._answer(200, {"url": f"{self.hub.address}/{repository}"})
        elif parts[-1] == "validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "branch" in parts:
            repository = "/".join(parts[2:4])
            self.hub.files[repository].setdefault(parts[-1], {})
            self._answer(200, {})
        elif "preupload" in parts:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "regular" if file["path"].endswith(".md") else "lfs",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": modes})
        elif parts[-1] == "batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.address}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})
        elif "commit" in parts:
            repository = "/".join(parts[2:4])
            commit = self.hub.commit(repository, parts[-1], self._committed(body))
            self._answer(
                200,
                {
                    "success": True,
                    "commitOid": commit,
                    "commitUrl": f"{self.hub.address}/{repository}/commit/{commit}",
                },
            )
        else:
            self._answer(404, {"error": "no such request"})

    def _committed(self, body: bytes) -> dict[str, bytes]:
        files = {}
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
        return files

    def _file(self, with_content: bool) -> None:
        self._note()
        owner, name, _, *rest = unquote(urlsplit(self.path).path).strip("/").split("/")
        repository, file = f"{owner}/{name}", rest[-1]
        revision = "/".join(rest[:-1])
        branches = self.hub.files.get(repository)
        if branches is None:
            return self._refuse("RepoNotFound")
        if revision not in branches:
            return self._refuse("RevisionNotFound")
        content = branches[revision].get(file)
        if content is None:
            return self._refuse("EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.hub.commit_of(repository, revision))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if self.hub.pretended is not None:
            self.send_header("X-Linked-Size", str(self.hub.pretended))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)
        return None

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, content: Any = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _note(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        if given := self.headers.get("Authorization"):
            self.hub.tokens.add(given.removeprefix("Bearer "))


@contextmanager
def serving() -> Iterator[Hub]:
    """A stand-in that listens as long as the block lasts."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
