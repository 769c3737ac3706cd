"""Options of the server, which are those of its verbs too."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from cdal.runtime.errors import UserError

_SHORTEST_TOKEN = 8


def _option(help: str, default: Any) -> Any:  # noqa: A002 (the command line's own word)
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Serving:
    """How the server answers, and how much it takes on.

    To add an option, add a field here and use it. Its help text is that of the command line.

    Attributes:
        host: address to listen at.
        port: port to listen at; 0 for any that is free.
        token: secret that every request has to bring; `None` for none.
        names: names by which browsers may call the server, besides `localhost` and addresses.
        queue: computations that may wait.
        upload: most MiB of a request.
        seconds: most seconds of a computation.
        idle: minutes after which an upload that nobody asks for is deleted.
        uploads: most uploads that are kept.

    Raises:
        UserError: a number is too low, or another computer could ask without a token.
    """

    host: str = _option(
        "Address to listen at; another than this computer's needs --token.", "127.0.0.1"
    )
    port: int = _option("Port to listen at; 0 for any that is free.", 8000)
    token: str | None = _option(
        "Secret that every request has to bring (default: the environment variable CDAL_TOKEN).",
        None,
    )
    names: tuple[str, ...] = _option(
        "Names by which browsers may call the server, such as that of a proxy before it.", ()
    )
    queue: int = _option("Computations that may wait; more are refused.", 16)
    upload: float = _option("Most MiB of a request.", 2048.0)
    seconds: float = _option("Most seconds of a computation.", 600.0)
    idle: float = _option("Minutes after which an upload nobody asks for is deleted.", 60.0)
    uploads: int = _option("Most uploads that are kept; more are refused.", 200)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"port must be 0 to 65535; it is {self.port}.")
        for name in ("queue", "uploads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more; it is {getattr(self, name)}.")
        for name in ("upload", "seconds", "idle"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be more than 0; it is {getattr(self, name)}.")
        if self.token is not None and len(self.token) < _SHORTEST_TOKEN:
            raise UserError(f"the token must have {_SHORTEST_TOKEN} characters or more.")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise UserError("the token must be of letters, digits and signs of ASCII.")
        if self.token is None and not is_here(self.host):
            raise UserError(
                f"at {self.host} other computers can ask the server: give a --token of "
                f"{_SHORTEST_TOKEN} characters or more, or listen at 127.0.0.1."
            )

    @property
    def most_bytes(self) -> int:
        """Most bytes of a request."""
        return int(self.upload * 2**20)


def is_here(host: str) -> bool:
    """Whether only this computer can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
