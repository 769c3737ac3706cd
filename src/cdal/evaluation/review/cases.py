"""The cases of a folder of results, as `predictions.json` lists them.

The file may come from an older version, which knew fewer fields, or from anywhere: what is missing
or is not of the kind that is expected counts as not known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cdal.inference.outputs import OUTPUTS
from cdal.runtime.errors import UserError

_RECORD = "predictions.json"

Interval = tuple[float, float] | None
"""Ends of a 90 % interval; `None` if there is none."""


@dataclass(frozen=True)
class Found:
    """What was found of one class in one case.

    Attributes:
        name: name of the class.
        number: index of the class in the mask, from 1.
        volume: volume in the case's unit; `None` if it is not known.
        volume_interval: interval of the volume.
        dice: expected Dice; `None` if it is not known.
        dice_interval: interval of the Dice.
    """

    name: str
    number: int
    volume: float | None = None
    volume_interval: Interval = None
    dice: float | None = None
    dice_interval: Interval = None


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        source: path of the image, as it was given to `cdal predict`.
        model: name of the model, as it was given.
        files: name of each result by its kind, such as `mask`.
        classes: the classes without the background.
        unit: unit of the volumes, `mm3` or `pixels`.
        uncertainty: mean uncertainty over the foreground; `None` if it is not known.
        verdict: `accept` or `review`; empty if there is none.
        outside: whether the image is unlike those of the training; `None` if it is not known.
        warnings: what is unlike them, and what else the user was told.
        votes: number of votes; `None` if it is not known.
        digest: checksum of the image's bytes, see `cdal.inference.case.digest_of_input`; empty
            if it is not known.
        when: when they were read, in seconds since 1970; `None` if it is not known.
        series: SeriesInstanceUID, if the image is a folder of DICOM; else empty.
    """

    source: str
    model: str
    files: Mapping[str, str]
    classes: tuple[Found, ...]
    unit: str
    uncertainty: float | None
    verdict: str
    outside: bool | None
    warnings: tuple[str, ...]
    votes: int | None = None
    digest: str = ""
    when: float | None = None
    series: str = ""

    @property
    def name(self) -> str:
        """File name of the image."""
        return Path(self.source).name or self.source

    @property
    def dice(self) -> float | None:
        """Expected Dice of the class where it is lowest; `None` if no class has one."""
        return min((found.dice for found in self.classes if found.dice is not None), default=None)


@dataclass(frozen=True)
class Results:
    """A folder of results.

    Attributes:
        folder: the folder.
        cases: the cases in the order of the review.
        failed: message for each input that failed, by its path.
        version: version of cDAL that wrote the results; empty if it is not known.
        written: when they were written, in the local time zone.
    """

    folder: Path
    cases: tuple[Case, ...]
    failed: Mapping[str, str]
    version: str
    written: datetime


def read_results(folder: Path) -> Results:
    """Read what `cdal predict` wrote into a folder.

    The cases are in the order of the review: the lowest expected Dice first. Cases without one
    follow, those with the highest mean uncertainty first, and last those without either.

    Raises:
        UserError: the folder holds no `predictions.json`, or this cannot be read.
    """
    path = folder / _RECORD
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "there is no such folder"
        raise UserError(
            f"{folder}: expected a folder of results, which cdal predict --out wrote; {found}."
        )
    if not path.is_file():
        raise UserError(
            f"{folder} holds no {_RECORD}. Expected a folder of results: give the --out of cdal "
            "predict."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read: {error}. Run cdal predict again, which writes it anew."
        ) from error
    rows = content.get("predictions") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise UserError(
            f"{path}: expected the record of cdal predict, with a list called predictions. Is it "
            "another program's?"
        )
    failed = content.get("failed")
    return Results(
        folder,
        tuple(sorted((_case(row) for row in rows if isinstance(row, dict)), key=_order)),
        {name: _text(why) for name, why in failed.items()} if isinstance(failed, dict) else {},
        _text(content.get("version")),
        written,
    )


def _order(case: Case) -> tuple[int, float, str]:
    if case.dice is not None:
        return 0, case.dice, case.source
    if case.uncertainty is not None:
        return 1, -case.uncertainty, case.source
    return 2, 0.0, case.source


def _case(row: Mapping[str, Any]) -> Case:
    warnings, outside, votes = row.get("warnings"), row.get("outside"), row.get("vote_count")
    verdict = _text(row.get("verdict"))
    return Case(
        source=_text(row.get("input")),
        model=_text(row.get("model")),
        files={kind: row[kind] for kind in OUTPUTS if _is_name(row.get(kind))},
        classes=_classes(_mapping(row.get("volume")), _mapping(row.get("quality"))),
        unit=_text(row.get("unit")),
        uncertainty=_number(row.get("mean_uncertainty")),
        verdict=verdict if verdict in ("accept", "review") else "",
        outside=outside if isinstance(outside, bool) else None,
        warnings=tuple(map(_text, warnings)) if isinstance(warnings, list) else (),
        votes=votes if isinstance(votes, int) and not isinstance(votes, bool) else None,
        digest=_text(row.get("input_digest")),
        when=_time(row.get("when")),
        series=_text(row.get("series")),
    )


def _classes(volumes: Mapping[str, Any], quality: Mapping[str, Any]) -> tuple[Found, ...]:
    """The classes in the order of the model, which is that of the volumes."""
    names = list(dict.fromkeys([*volumes, *quality]))
    known = [_mapping(quality.get(name)) for name in names]
    return tuple(
        Found(
            name,
            number,
            _number(volumes.get(name)),
            _interval(estimate.get("volume_interval")),
            _number(estimate.get("expected_dice")),
            _interval(estimate.get("dice_interval")),
        )
        for number, (name, estimate) in enumerate(zip(names, known, strict=True), start=1)
    )


def _is_name(value: Any) -> bool:
    """Whether a value names a file in the folder of the results, and none elsewhere."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and not set(value) & set("/\\\0")
        and Path(value).name == value
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _time(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _interval(value: Any) -> Interval:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = map(_number, value)
    return None if low is None or high is None else (low, high)
