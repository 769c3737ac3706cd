"""The HTML page of a review.

Names of files and classes, warnings and errors come from files: all are escaped. The page's policy
lets it load nothing but the pictures beside it, and run no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment

from cdal.evaluation.review.cases import Case, Found, Interval, Results
from cdal.evaluation.review.thumbnails import Thumbnail, holds_header
from cdal.evaluation.review.views import TOP
from cdal.imaging.palette import PALETTE
from cdal.runtime.text import printable
from cdal.runtime.version import __version__

_GENERATOR = "cdal review"
_MOST_MODELS = 3
_UNITS = {"mm3": "mm³"}

_MEANING = (
    "Expected Dice is the model's own estimate of how well its mask agrees with the one that an "
    "expert would draw (1 is full agreement, 0 is none); it is not measured on this image.",
    "A 90 % interval is made to hold the true Dice, or the true volume, of nine in ten images like "
    "those of the model's training; for other images it promises nothing.",
    "A warning says how an image differs from those of the training, but no warning does not mean "
    "that it is like them, and cDAL is not a medical device: look at a mask before anything "
    "depends on it.",
)

_ORDER = (
    "The case with the lowest expected Dice comes first; of a case with several classes, the "
    "lowest counts. Cases without one follow, the most uncertain first."
)
_PICTURES = (
    "A picture shows the image with the outlines of its classes. If the uncertainty was saved, its "
    f"map is beside it: the spread of the votes, black for 0, brightest from {TOP:g} on. Slices "
    "with a place in space are shown as radiologists see them, with the patient's right on the "
    "left."
)

_COLUMNS = (
    ("name", "Case", ""),
    ("", "Picture", ""),
    ("", "Class", ""),
    ("", "Volume, 90 % interval", ""),
    ("dice", "Expected Dice, 90 % interval", "ascending"),
    ("uncertainty", "Mean uncertainty", ""),
    ("", "Verdict", ""),
)

_IN_RECORD = (
    "The reason is in predictions.json. It is not repeated here, because it may hold what the "
    "headers of DICOM files say."
)


def render(found: Results, thumbnails: Sequence[Thumbnail], page: Path, pictures: Path) -> str:
    """Return the page as HTML.

    Args:
        found: the results, with the cases in their order.
        thumbnails: the picture of each case.
        page: path of the page, from which its links lead.
        pictures: folder of the pictures.
    """
    style = _part("page.css") + _swatches(found.cases)
    script = _part("page.js")
    review = sum(case.verdict == "review" for case in found.cases)
    outside = sum(case.outside is True for case in found.cases)
    environment = Environment(autoescape=True, trim_blocks=False)
    return environment.from_string(_part("page.html")).render(
        title=f"Review of {printable(found.folder.absolute().name)}",
        policy=_policy(style, script),
        generator=f"{_GENERATOR} {__version__}",
        style=style,
        script=script,
        facts=_facts(found, review, outside),
        meaning=_MEANING,
        order=_ORDER,
        pictures=_PICTURES,
        columns=_COLUMNS,
        filters=[
            ("all", f"all ({len(found.cases)})"),
            ("review", f"to review ({review})"),
            ("outside", f"outside ({outside})"),
        ],
        rows=[
            _row(case, thumbnail, found.folder, page.parent, pictures)
            for case, thumbnail in zip(found.cases, thumbnails, strict=True)
        ],
        failed=[
            (printable(name), _IN_RECORD if holds_header(Path(name)) else printable(why))
            for name, why in found.failed.items()
        ],
    )


def is_ours(page: Path) -> bool:
    """Whether a file is a page that `render` made."""
    try:
        with page.open("rb") as file:
            return f'<meta name="generator" content="{_GENERATOR}'.encode() in file.read(2048)
    except OSError:
        return False


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy of the page.

    Some browsers do not take the folder of a page on the disk for `'self'`, hence `file:`.
    """
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src 'self' file:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _swatches(cases: Iterable[Case]) -> str:
    """Style of the patches of colour beside the names of classes."""
    most = max((len(case.classes) for case in cases), default=0)
    return "".join(
        f".c{k} {{ background: #{red:02x}{green:02x}{blue:02x}; }}\n"
        for k, (red, green, blue) in enumerate(PALETTE[1 : most + 1].tolist(), start=1)
    )


def _facts(found: Results, review: int, outside: int) -> list[tuple[str, str]]:
    """What stands at the head of the page, by name."""
    models = Counter(case.model or "not known" for case in found.cases).most_common()
    named = ", ".join(printable(name) for name, _ in models[:_MOST_MODELS])
    more = f" and {len(models) - _MOST_MODELS} more" if len(models) > _MOST_MODELS else ""
    judged = sum(bool(case.verdict) for case in found.cases)
    known = sum(case.outside is not None for case in found.cases)
    return [
        ("Model", named + more or "none"),
        ("Cases", str(len(found.cases))),
        ("To review", _share(review, judged, len(found.cases), "have a verdict")),
        ("Outside of the training", _share(outside, known, len(found.cases), "were compared")),
        ("Failed", str(len(found.failed))),
        ("Results written", found.written.strftime("%Y-%m-%d %H:%M %z")),
        ("cDAL of the results", printable(found.version) or "not known"),
        ("cDAL of this page", __version__),
    ]


def _share(count: int, known: int, total: int, what: str) -> str:
    if known == total:
        return str(count)
    return f"{count} ({known} of {total} {what})" if known else f"not known (none {what})"


def _row(
    case: Case, thumbnail: Thumbnail, results: Path, home: Path, pictures: Path
) -> dict[str, Any]:
    """What the template shows of a case."""
    folder = str(Path(case.source).parent)
    outlines = " with the outlines of its classes" if "mask" in case.files else ""
    beside = ", beside it its uncertainty" if thumbnail.map else ""
    return {
        "name": printable(case.name) or "without a name",
        "folder": "" if folder == "." else printable(folder),
        "verdict": case.verdict,
        "outside": "" if case.outside is None else str(case.outside).lower(),
        "dice": "" if case.dice is None else repr(case.dice),
        "uncertainty": "" if case.uncertainty is None else repr(case.uncertainty),
        "spread": "not known" if case.uncertainty is None else f"{case.uncertainty:.3f}",
        "warnings": [printable(warning) for warning in case.warnings],
        "links": [
            ("image", _url(Path(case.source), home)),
            *((kind, _url(results / name, home)) for kind, name in case.files.items()),
        ],
        "picture": _url(pictures / thumbnail.name, home) if thumbnail.name else "",
        "width": thumbnail.size[0],
        "height": thumbnail.size[1],
        "alt": f"{printable(case.name)}{outlines}{beside}",
        "caption": printable(thumbnail.caption),
        "span": max(1, len(case.classes)),
        "classes": [_class(found, case.unit) for found in case.classes or (Found("none", 0),)],
    }


def _class(found: Found, unit: str) -> dict[str, Any]:
    unit = _UNITS.get(unit, printable(unit))
    volume = "not known" if found.volume is None else f"{_amount(found.volume)} {unit}"
    return {
        "number": min(found.number, len(PALETTE) - 1),
        "name": printable(found.name),
        "volume": volume if found.number else "",
        "volume_interval": _span(found.volume_interval, _amount),
        "dice": ("not known" if found.dice is None else f"{found.dice:.2f}")
        if found.number
        else "",
        "dice_interval": _span(found.dice_interval, "{:.2f}".format),
    }


def _span(interval: Interval, text: Any) -> str:
    return "" if interval is None else f"{text(interval[0])} to {text(interval[1])}"


def _amount(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 or number == 0 else f"{number:.3g}"


def _url(path: Path, home: Path) -> str:
    """Relative link from a folder to a file; empty if the file is gone or cannot be linked."""
    try:
        if not path.name or not path.exists():
            return ""
        relative = os.path.relpath(path, home)
        # No name can be taken for a scheme: every colon is quoted.
        return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")
    except (OSError, ValueError):  # too long, another drive, or no name of this file system
        return ""
