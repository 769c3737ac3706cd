"""Whether the palettes of label images mean the same by the same number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdal.datasets.findings import CaseFacts, Finding


def clashing_palettes(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find numbers that have one colour in a label and another colour in another label.

    Programs that reduce colours number them anew in each file.
    """
    first: dict[int, tuple[str, int]] = {}
    for fact in facts:
        for number, colour in fact.palette.items():
            name, known = first.setdefault(number, (fact.name, colour))
            if known != colour:
                yield Finding(
                    "error",
                    "values",
                    fact.name,
                    f"the palettes of the labels differ: {number} is #{colour:06x} in {fact.name}, "
                    f"and #{known:06x} in {name}. Which is meant? Save the labels in colours "
                    "(RGB), or with one palette.",
                )
                break
