"""Requests that are refused: each with the status and the sentence of the reply."""

from __future__ import annotations

from fastapi import HTTPException

RETRY_SECONDS = 5
"""Seconds after which a client that was refused for want of room should ask again."""


def missing(what: str) -> HTTPException:
    """404: something is not there, or not any more."""
    return HTTPException(404, f"{what} is not here, or not any more.")


def outdated(name: str) -> HTTPException:
    """409: results are of an image that is not there any more."""
    return HTTPException(
        409,
        f"The image {name} has changed since it was segmented: its results belong to the image "
        "that was there before. Segment it again.",
    )


def stays() -> HTTPException:
    """409: a case that is not the client's to delete."""
    return HTTPException(
        409,
        "This case is of the server's own folders, and stays. Only images that were sent to it can "
        "be deleted.",
    )


def unusable(message: str) -> HTTPException:
    """422: what was sent cannot be used."""
    return HTTPException(422, message)


def full(message: str) -> HTTPException:
    """429: there is no room now."""
    return HTTPException(429, message, {"Retry-After": str(RETRY_SECONDS)})


def closing() -> HTTPException:
    """503: the server ends."""
    return HTTPException(503, "The server is ending. Ask again when it is back.")


def too_large(most: int) -> HTTPException:
    """413: a request has too many bytes."""
    return HTTPException(
        413,
        f"The request has more than {most / 2**20:g} MiB. Crop the image, or start the server "
        "with a larger --upload.",
        {"Connection": "close"},
    )


def too_slow(message: str) -> HTTPException:
    """408: a request or a computation takes too long."""
    return HTTPException(408, message, {"Connection": "close"})
