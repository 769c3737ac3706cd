"""A page for looking through a folder of results: what to look at first, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdal.evaluation.review.cases import read_results
from cdal.evaluation.review.page import is_ours, render
from cdal.evaluation.review.thumbnails import make_thumbnail, remove_others
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import write_text

PAGE = "review.html"


@dataclass(frozen=True)
class Review:
    """Outcome of `write_review`.

    Attributes:
        page: path of the page.
        cases: number of cases on it.
        kept: number of pictures that were there before.
        problems: why a case has no picture, for each that has none.
    """

    page: Path
    cases: int
    kept: int
    problems: tuple[str, ...]


def write_review(results: Path, page: Path | None = None, report: Report = silent) -> Review:
    """Write one HTML page about a folder of results, and a folder of small pictures beside it.

    The page opens from the disk, without a server. Pictures whose files have not changed are not
    drawn again. An image that is missing or cannot be read gets the reason in its place.

    Args:
        results: folder that `cdal predict --out` wrote.
        page: path of the page; `review.html` in the folder of results if `None`. The pictures are
            in a folder of the same name with `_files` at its end.
        report: receives the progress, counted in cases.

    Raises:
        UserError: the folder holds no results, or the page cannot be written, or another file has
            its name. Or no image is there, and an earlier page is, which is kept.
    """
    page = results / PAGE if page is None else page
    found = read_results(results)
    if page.is_dir() or page.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{page}: expected the name of a page for --out, such as {PAGE}.")
    if page.exists() and not is_ours(page):
        raise UserError(
            f"{page} is there and was not written by cdal review; it is kept. Give another --out."
        )
    folder = page.with_name(f"{page.stem}_files")
    thumbnails = []
    for number, case in enumerate(found.cases):
        report(Event("drawing", case.name, number, len(found.cases)))
        thumbnails.append(make_thumbnail(case, results, folder))
    report(Event("drawing", "", len(found.cases), len(found.cases)))
    if page.exists() and thumbnails and all(thumbnail.gone for thumbnail in thumbnails):
        raise UserError(f"{page} is kept, as there is nothing to show. {thumbnails[0].problem}")
    write_text(page, render(found, thumbnails, page, folder))
    remove_others(folder, {thumbnail.name for thumbnail in thumbnails})
    return Review(
        page,
        len(found.cases),
        sum(thumbnail.kept for thumbnail in thumbnails),
        tuple(thumbnail.problem for thumbnail in thumbnails if thumbnail.problem),
    )
