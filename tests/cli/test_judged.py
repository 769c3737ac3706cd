"""What a prediction shows of its cases, however many there are."""

from __future__ import annotations

from typing import Any

from cdal.cli.judged import Judged


def case(number: int, **more: Any) -> dict[str, Any]:
    return {"input": f"case {number}", "lowest": (number * 7 % 100) / 100, **more}


def test_the_lowest_are_shown_of_any_number():
    judged = Judged()
    judged.add({"input": "not judged"})
    for number in range(100):
        judged.add(case(number, outside=number % 2 == 1, warnings=["dark", "small"]))
    lines = judged.lines("nothing was fitted")
    assert lines[0].endswith("has no interval: nothing was fitted")
    assert lines[1] == "50 unlike the training images:"
    assert lines[2] == "  case 1: dark; small"
    assert lines[7] == "  ... and 45 more"
    assert lines[8:] == [
        "lowest expected Dice:",
        *(f"  case {number}: {number * 7 % 100 / 100:.3f}" for number in (0, 43, 86, 29, 72)),
    ]


def test_with_verdicts_the_cases_for_review_are_shown():
    judged = Judged()
    for number in range(20):
        judged.add(case(number, verdict="review" if number < 7 else "accept"))
    lines = judged.lines("")
    assert lines[0] == "7 of 20 for review:"
    assert lines[1] == "  case 0: expected Dice 0.000"
    assert lines[-1] == "  ... and 2 more"
    assert Judged().lines("") == []


def test_pictures_of_which_a_part_was_not_segmented_are_told():
    judged = Judged()
    judged.add({"input": "a.png"})
    judged.add({"input": "b.tif", "skipped": 0.625})
    heading, line = judged.lines("")
    assert "--no-skip" in heading
    assert line == "  b.tif: 62.5%"
