"""What a person says of the cases in a folder of results: `review.json`, and corrected masks.

    review.json        {"version": 1, "held_out": [NAME, ...], "cases": {"a.nii.gz": REVIEW}}
    reviewed/NAME      corrected masks, in the format and on the grid of the image

A review is `{"input", "verdict", "when", "mask", "dice", "digest", "image"}`, see `Review`. A case
is named as its corrected mask is or would be, `NAME.ext`; its prediction is `NAME_mask.ext`.
Several programs may write at once: they take turns, and none loses what another has written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from cdal.datasets.tables import read_json
from cdal.runtime.errors import UserError
from cdal.runtime.files import digest_of, taking_turns, write_json

REVIEWS = "review.json"
"""Name of the file in a folder of results."""

REVIEWED = "reviewed"
"""Name of the folder of corrected masks in a folder of results."""

Verdict = Literal["accept", "fix", "reject"]
"""The predicted mask is right; a corrected mask is; the case is not to be used."""

_VERSION = 1
_LOCK = Path(".cdal") / "review.lock"
_MASK = "_mask"


@dataclass(frozen=True)
class Review:
    """The review of one case.

    Attributes:
        input: path of the image, as in `predictions.json`.
        verdict: see `Verdict`.
        when: local time in ISO 8601, with its distance to UTC.
        mask: name of the corrected mask in `reviewed/`; `None` unless the verdict is `fix`.
        dice: Dice of the corrected mask and the predicted one, by class.
        digest: checksum of the mask that the verdict is about, the predicted or the corrected one;
            empty if it is rejected.
        image: checksum of the image's bytes, as in `predictions.json`; empty if it is not known.
    """

    input: str
    verdict: Verdict
    when: str
    mask: str | None = None
    dice: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    image: str = ""


@dataclass(frozen=True)
class Reviews:
    """The reviews of a folder of results.

    Attributes:
        cases: review of each case by its name.
        held_out: names of patients and of their cases that no training uses, so that models can be
            compared on them. Programs that review leave them as they are.
        broken: message for each case whose review cannot be used, by its name.
    """

    cases: Mapping[str, Review] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


def name_of_case(source: str, mask: str | None) -> str:
    """Name of a case in `review.json`, and of its corrected mask in `reviewed/`.

    Args:
        source: path of the image, as in `predictions.json`.
        mask: name of the predicted mask, `NAME_mask.ext`; `None` if none was saved, and the name is
            that of the image.
    """
    return "".join(mask.rsplit(_MASK, 1)) if mask else Path(source).name


def read_reviews(results: Path) -> Reviews:
    """Read the reviews of a folder of results; there are none without a `review.json`.

    Raises:
        UserError: the file cannot be read, is of a newer version, or holds something else. One
            review that cannot be used is told in `Reviews.broken`.
    """
    path = results / REVIEWS
    content = _content(path)
    cases, broken = dict[str, Review](), dict[str, str]()
    for name, values in content["cases"].items():
        try:
            cases[name] = _review(path, name, values)
        except UserError as error:  # noqa: PERF203 (one bad review must not hide the others)
            broken[name] = str(error)
    return Reviews(cases, tuple(content["held_out"]), broken)


def _content(path: Path) -> dict[str, Any]:
    """What the file holds; each review as it is there. Errors as `read_reviews`."""
    content = read_json(path)
    if not content:
        return {"version": _VERSION, "held_out": [], "cases": {}}
    if content.get("version") != _VERSION:
        raise UserError(
            f"{path}: expected version {_VERSION}; it is {content.get('version')!r:.40}. Was it "
            "written by a newer version of cDAL?"
        )
    cases, held_out = content.get("cases"), content.get("held_out", [])
    if not isinstance(cases, dict):
        raise _other_form(path, '"cases": {NAME: {...}}', cases)
    if not isinstance(held_out, list) or not all(isinstance(name, str) for name in held_out):
        raise _other_form(path, '"held_out": [NAME, ...]', held_out)
    return {**content, "held_out": held_out, "cases": cases}


def keep_review(
    results: Path,
    name: str,
    source: str,
    verdict: Verdict,
    predicted: str | None = None,
    dice: Mapping[str, float] | None = None,
    image: str = "",
) -> Review:
    """Write the review of a case, in place of an earlier one; those of others stay as they are.

    A corrected mask has to be in its place, `results/reviewed/NAME`, before.

    Args:
        results: folder of results.
        name: name of the case, see `name_of_case`.
        source: path of the image, as in `predictions.json`.
        verdict: see `Verdict`.
        predicted: name of the predicted mask, which is needed to accept it.
        dice: Dice of the corrected mask and the predicted one, by class.
        image: checksum of the image's bytes, as in `predictions.json`.

    Raises:
        UserError: the mask that the verdict is about is missing, an argument is not possible, the
            reviews so far cannot be read, or the file cannot be written.
    """
    path = results / REVIEWS
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    mask = name if verdict == "fix" else None
    review = Review(source, verdict, now, mask, dict(dice or {}), image=image)
    review = _review(path, name, asdict(review))
    if verdict != "reject":
        file = results / REVIEWED / name if verdict == "fix" else results / (predicted or "")
        if not file.is_file():
            remedy = (
                "Save the corrected mask there first."
                if verdict == "fix"
                else "Correct the case, or predict it again with its mask (--save mask)."
            )
            raise UserError(f"{file}: expected the mask of {name}; it is not there. {remedy}")
        review = replace(review, digest=digest_of(file))
    with taking_turns(results / _LOCK):
        known = _content(path)
        known["cases"][name] = asdict(review)
        _write(path, known)
    return review


def keep_held_out(results: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Add names to those that no training uses; returns all of them, sorted.

    Raises:
        UserError: the reviews so far cannot be read, or the file cannot be written.
    """
    with taking_turns(results / _LOCK):
        known = _content(results / REVIEWS)
        held_out = sorted({*known["held_out"], *names})
        if held_out != known["held_out"]:
            _write(results / REVIEWS, {**known, "held_out": held_out})
    return tuple(held_out)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_json(path, {**content, "cases": dict(sorted(content["cases"].items()))})


def _review(path: Path, name: str, values: Any) -> Review:
    """The review of a case from plain values; raises UserError if they are not possible."""

    def need(holds: bool, expected: str, found: Any) -> None:
        if not holds:
            raise _other_form(path, f"{name!a:.80}: {expected}", found)

    need(_is_file_name(name), "the name of a file in reviewed/", name)
    need(isinstance(values, dict), "a review", values)
    source, verdict, when = (values.get(key) for key in ("input", "verdict", "when"))
    mask, dice = values.get("mask"), values.get("dice") or {}
    digest, image = (values.get(key) or "" for key in ("digest", "image"))
    need(isinstance(source, str) and source != "", "the path of an image as input", source)
    need(verdict in get_args(Verdict), f"one of {', '.join(get_args(Verdict))}", verdict)
    need(_is_time(when), "a time as in 2026-01-31T12:00:00+00:00 as when", when)
    need(
        mask is None or (verdict == "fix" and _is_file_name(mask)),
        "the name of a file in reviewed/ as mask, if the verdict is fix",
        mask,
    )
    need(verdict != "fix" or mask is not None, "a mask, as the verdict is fix", mask)
    need(
        isinstance(dice, dict) and all(_is_share(value) for value in dice.values()),
        "a number from 0 to 1 for each class as dice",
        dice,
    )
    need(isinstance(digest, str), "a checksum as digest", digest)
    need(isinstance(image, str), "a checksum as image", image)
    return Review(source, verdict, when, mask, dice, digest, image)


def _is_file_name(text: Any) -> bool:
    """Whether text is the name of a file in a folder, and leads nowhere else."""
    return (
        isinstance(text, str) and text not in ("", ".", "..") and not set(text) & {"/", "\\", "\0"}
    )


def _is_time(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _is_share(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value <= 1


def _other_form(path: Path, expected: str, found: Any) -> UserError:
    return UserError(
        f"{path}: expected {expected}; it holds {found!r:.80}. Correct it, or move it away to "
        "review anew."
    )
