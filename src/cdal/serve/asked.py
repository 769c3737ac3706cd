"""What clients ask for: bodies of JSON, options of sampling, kinds of results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from cdal.inference.sampling import Sampling
from cdal.serve.answers import Answer
from cdal.serve.refusals import unusable
from cdal.serve.site import Site

MOST_VOTES = 500
"""Most votes of a request: nothing can stop an engine while it draws them."""


class Body(BaseModel):
    """A JSON object with known fields; another is named in the refusal, not passed over."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if isinstance(values, dict):
            need_known("the body", values, cls.model_fields)
        return values


def need_known(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse names that are not known.

    Raises:
        HTTPException: 422; it names them, and those that are known.
    """
    if unknown := [f"{name:.40}" for name in given if name not in known]:
        named = ", ".join(map(repr, unknown[:5]))
        raise unusable(f"{what} has no field {named}; there are {', '.join(known)}.")


def sampling_of(site: Site, content: str | Answer | None) -> Sampling | None:
    """Options of sampling from JSON; what it does not name is as the server was started.

    Raises:
        HTTPException: 422, it is no JSON object, or a field is unknown or of another kind.
        UserError: a number is too low or too high.
    """
    if not content:
        return None
    try:
        values = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError) as error:
        raise unusable(f"sampling: expected a JSON object; {error}.") from error
    known = {field.name: field for field in dataclasses.fields(Sampling)}
    if not isinstance(values, dict):
        raise unusable('sampling: expected a JSON object, such as {"votes": 5}.')
    need_known("sampling", values, known)
    for name, value in values.items():
        if not _fits(value, str(known[name].type)):
            raise unusable(f"sampling: {name} must be {known[name].type}; it is {value!r:.40}.")
    most = max(MOST_VOTES, site.models.sampling.votes or 0)
    if (values.get("votes") or 0) > most:
        raise unusable(f"sampling: votes must be {most} or less here; it is {values['votes']}.")
    return dataclasses.replace(site.models.sampling, **values)


def _fits(value: Any, kind: str) -> bool:
    """Whether a JSON value is of the type of a field, as it is written in `Sampling`."""
    if value is None:
        return "None" in kind
    if isinstance(value, bool):
        return "bool" in kind
    if isinstance(value, int):
        return "int" in kind or "float" in kind
    if isinstance(value, float):
        return "float" in kind
    return isinstance(value, str) and "Literal" in kind


def save_of(values: Collection[str]) -> tuple[str, ...]:
    """Kinds of results from the values of a field, which may be lists with commas.

    Raises:
        HTTPException: 422, nothing is named.
    """
    names = [name.strip() for value in values for name in value.split(",")]
    found = tuple(dict.fromkeys(name for name in names if name))
    if not found:
        raise unusable("save names nothing: expected some kinds of results, such as mask.")
    return found
