"""`cdal review`: Write a page for looking through results, the least certain first."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import counted, tell
from cdal.cli.words import DONE, IN_PART

_MOST = 5


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("results", type=str, help="Folder that cdal predict --out wrote.")
    parser.add_argument(
        "--out",
        type=str | None,
        help="HTML page (default: review.html in the folder of results).",
    )


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar
    from cdal.evaluation.review import write_review

    with progress_bar() as report:
        review = write_review(
            Path(options.results), None if options.out is None else Path(options.out), report
        )
    problems = review.problems
    for message in dict.fromkeys(problems[:_MOST]):
        tell(f"cdal review: {message}", error=True)
    if len(problems) > _MOST:
        tell(f"cdal review: {len(problems) - _MOST} more without a picture", error=True)
    drawn = review.cases - review.kept - len(problems)
    tell(
        f"{review.page}: {counted(review.cases, 'case')}, {counted(drawn, 'picture')} drawn, "
        f"{review.kept} kept, {len(problems)} without a picture"
    )
    return IN_PART if problems else DONE
