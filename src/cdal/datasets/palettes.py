"""Whether the palettes of label images mean the same by the same value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdal.datasets.findings import CaseFacts, Finding


def clashing_palettes(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find values that have another colour in another label, and colours that have another value.

    Programs that reduce colours number them anew in each file.
    """
    colours: dict[int, tuple[str, int]] = {}
    values: dict[int, tuple[str, int]] = {}
    for fact in facts:
        for value, colour in fact.palette.items():
            first, other = colours.setdefault(value, (fact.name, colour))
            second, number = values.setdefault(colour, (fact.name, value))
            if other != colour:
                clash = f"{value} is #{colour:06x} in {fact.name}, and #{other:06x} in {first}"
            elif number != value:
                clash = f"#{colour:06x} is {value} in {fact.name}, and {number} in {second}"
            else:
                continue
            yield Finding(
                "error",
                "values",
                fact.name,
                f"the palettes of the labels differ: {clash}. Which is meant? Save the labels in "
                "colours (RGB), or with one palette.",
            )
            break
