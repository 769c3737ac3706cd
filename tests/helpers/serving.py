"""A server in this process, and clients that ask it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import torch
import uvicorn

from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import DataSettings
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.serve.app import create_app
from cdal.serve.models import Models
from cdal.serve.run import configured, listening
from cdal.serve.settings import Serving
from cdal.serve.site import Site
from cdal.serve.stoppable import stoppable
from helpers.recipes import small_recipe

SAMPLING = Sampling(votes=2)


@dataclass
class Running:
    """A server that is running, and its client."""

    site: Site
    port: int
    client: httpx.Client

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def empties(self) -> bool:
        """Whether nothing of the requests so far stays; the last one may have a moment."""
        for _ in range(100):
            left = [path for path in self.site.uploads.root.iterdir() if path.name != "tiles"]
            if not left and not len(self.site.uploads):
                return True
            time.sleep(0.05)
        return False

    def wait_for(self, job: str) -> dict[str, object]:
        """The last state of a job."""
        for _ in range(600):
            state = self.client.get(f"/v1/jobs/{job}").json()
            if state["state"] not in ("queued", "running"):
                return state
            time.sleep(0.05)
        raise AssertionError("the job does not end")


@contextmanager
def served(
    root: Path,
    models: Sequence[Path | str | Predictor] = (),
    results: Path | None = None,
    data: Path | None = None,
    **options: object,
) -> Iterator[Running]:
    """A server; `options` are those of `Serving`."""
    settings = Serving(port=0, **options)
    uploads = root / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    site = Site(settings, Models(models, SAMPLING, "cpu"), uploads, results, data)
    listener = listening(settings)
    server = uvicorn.Server(configured(create_app(site), settings))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)
    try:
        while not server.started:
            time.sleep(0.01)
        yield Running(site, port, client)
    finally:
        client.close()
        site.close()
        server.should_exit = True
        thread.join(20)
        site.join()


def picture_model(path: Path) -> Path:
    """A model of pictures with random weights and two classes."""
    data = DataSettings(spatial_dims=2, size=(32, 32), flips=(0,))
    recipe = replace(small_recipe(), data=data)
    torch.manual_seed(0)
    generator = build_segmenter(recipe, 1, 3).generator
    torch.nn.init.normal_(generator.head.weight, std=0.2)
    header = ModelHeader(recipe, ("background", "inner", "outer"), 1)
    save_model(path, generator.state_dict(), header)
    return path


class Held:
    """A predictor whose engine waits until it is let go, and counts what it has begun.

    Attributes:
        predictor: the predictor.
        begun: set when a computation has begun.
        go: what it waits for.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.predictor = stoppable(predictor, self._wait)

    def _wait(self) -> None:
        self.begun.set()
        assert self.go.wait(60)


def raw_get(port: int, path: str) -> bytes:
    """What the server answers to a path that no client has changed."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return raw(port, head.encode("latin-1"))


def raw(port: int, content: bytes, timeout: float = 10) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(content)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer
