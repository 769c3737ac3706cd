"""Names in messages."""

from __future__ import annotations

from cdal.runtime.errors import listed


def test_a_few_names_stand_in_the_line_and_many_have_lines_of_their_own():
    names = [f"c{number}" for number in range(23)]
    assert listed(names[:2]) == " c0, c1."
    assert listed(names[:6]).splitlines() == ["", *(f"  {name}" for name in names[:6])]
    assert listed(names[:20]).splitlines()[-1] == "  c19"
    assert listed(names).splitlines()[-2:] == ["  c19", "  ... and 3 others"]
