"""Running a server until it is ended."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.execution.processes import terminated_is_interrupted
from cdal.runtime.files import holding
from cdal.serve.settings import Serving

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

_EXTRA = "pip install 'cdal[serve]'"
_MOST_CONNECTIONS = 500
_LEAVING = 30
"""Seconds more than a computation may take, until connections are cut at the end."""


def serve(
    settings: Serving,
    models: Sequence[Path | str] = (),
    sampling: Sampling | None = None,
    device: str = "auto",
    results: Path | None = None,
    data: Path | None = None,
    started: Callable[[str], object] = print,
) -> None:
    """Serve models and results until the process is told to end.

    Args:
        settings: options of the server.
        models: models as for `cdal.inference.load.load`.
        sampling: options of sampling for requests without any.
        device: `auto`, `cpu`, `cuda` or `mps`.
        results: folder of results.
        data: folder of images.
        started: called with the address when the server answers.

    Raises:
        UserError: the extra is not installed, a model or a folder cannot be used, or the address or
            the folder of results is taken.
    """
    try:
        import fastapi  # noqa: F401 (is it there?)
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(
            f"the server needs {error.name}, which is not installed: {_EXTRA}"
        ) from error
    from cdal.serve.app import create_app
    from cdal.serve.models import Models
    from cdal.serve.site import Site
    from cdal.serve.uploads import upload_folder

    writes = bool(len(models)) and data is not None
    with upload_folder() as root, sole_server(results, writes), listening(settings) as listener:
        site = Site(settings, Models(models, sampling or Sampling(), device), root, results, data)
        config = configured(create_app(site), settings)

        class Server(uvicorn.Server):
            """Tells those who wait that it ends, as soon as it is told to."""

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                site.close()
                await super().shutdown(sockets)

        _log_to_terminal()
        host, port = listener.getsockname()[:2]
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        try:
            with terminated_is_interrupted(), suppress(KeyboardInterrupt):
                Server(config).run([listener])
        finally:
            site.close()
            site.join()


@contextmanager
def sole_server(results: Path | None, makes: bool) -> Iterator[None]:
    """Keep other servers away from a folder of results as long as this one runs.

    `cdal predict` and `cdal train` may use it meanwhile. A server that is killed keeps nobody away.

    Args:
        results: the folder; `None` for none.
        makes: whether the folder is made if it is not there. If not, nothing is written into it.

    Raises:
        UserError: another server has it.
    """
    if results is None or not (makes or results.is_dir()):
        yield
        return
    lock = results / ".cdal" / "serve.lock"
    taken = (
        f"another server is running with the results in {results}. End it, or give another folder "
        "for results: two would review and train on the same cases without knowing of each other."
    )
    with ExitStack() as held:
        with suppress(OSError):  # it cannot be written, so no server writes reviews into it
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(holding(lock, taken))
        yield


def configured(app: ASGIApp, settings: Serving) -> uvicorn.Config:
    """Uvicorn's options for an application."""
    import uvicorn

    from cdal.serve.connection import Connection

    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(settings.seconds) + _LEAVING,
    )


def _log_to_terminal() -> None:
    """Print the log of requests on standard error."""
    log = logging.getLogger("cdal.serve")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def listening(settings: Serving) -> socket.socket:
    """A socket at the address of the settings.

    Raises:
        UserError: the address is taken, or is none of this computer.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio sends at once; else every reply waits 40 ms for the client.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"{settings.host}:{settings.port} cannot be listened at: {error.strerror}. Give "
            "another --port, or 0 for any that is free."
        ) from error
    return listener
