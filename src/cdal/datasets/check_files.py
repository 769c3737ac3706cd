"""Finding images that differ from the others, and files that are not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from cdal.datasets.findings import CaseFacts, Finding, Level
from cdal.datasets.layout import DataFolder
from cdal.datasets.layouts.files import entries
from cdal.imaging.annotations import label_suffix_of
from cdal.runtime.errors import first_few

_ODD_SPACING = 3.0
"""Largest acceptable ratio between a volume's spacing and the median spacing."""

_SIDE_FILES = (".raw", ".zraw", ".csv", ".tsv", ".json", ".txt", ".md")
"""Suffixes of files that belong to others, or describe the folder."""


def alike(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find cases whose type, channels, dimensions or spacing differ from the others."""
    types = Counter(fact.stored for fact in facts)
    if len(types) > 1:
        listed = ", ".join(f"{count} {kind}" for kind, count in types.most_common())
        message = (
            f"images of several types: {listed}. Each is scaled to mean 0 and standard deviation "
            "1, unless the recipe says `range`."
        )
        yield Finding(
            "warning" if any(kind.startswith("uint16") for kind in types) else "note",
            "type",
            "",
            message,
        )
    channels = Counter(1 if fact.gray else fact.channels for fact in facts)
    if len(channels) > 1:
        listed = ", ".join(
            f"{count} of {number} channel(s)" for number, count in channels.most_common()
        )
        level: Level = "warning" if set(channels) == {1, 3} else "error"
        remedy = (
            "Gray ones can be repeated to 3 channels (--data.channels 3)"
            if level == "warning"
            else "Convert all to one kind"
        )
        yield Finding(
            level, "channels", "", f"expected images of one kind; there are {listed}. {remedy}."
        )
    dims = Counter(len(fact.shape) for fact in facts)
    if len(dims) > 1:
        yield Finding(
            "error",
            "shape",
            "",
            f"expected pictures or volumes; there are {dims[2]} pictures and {dims[3]} volumes. "
            "Separate them.",
        )
    placed = [fact for fact in facts if fact.spacing is not None]
    if placed:
        middle = np.median([fact.spacing for fact in placed], axis=0)
        for fact in placed:
            ratio = np.array(fact.spacing) / middle
            if ratio.max() > _ODD_SPACING or ratio.min() < 1 / _ODD_SPACING:
                own = " x ".join(f"{s:g}" for s in fact.spacing or ())
                usual = " x ".join(f"{s:g}" for s in middle)
                message = (
                    f"{fact.name}: its voxels are {own} mm, the others' {usual} mm. Is its header "
                    "right?"
                )
                yield Finding("warning", "spacing", fact.name, message)


def other_channels(folder: DataFolder, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find images whose number of channels is not that which dataset.json declares."""
    declared = {case.name: case.channels for case in folder.cases}
    other = [
        fact
        for fact in facts
        if declared[fact.name] not in (None, fact.channels, 1 if fact.gray else None)
    ]
    if other:
        message = (
            f"{first_few([fact.name for fact in other])}: expected {declared[other[0].name]} "
            f"channel(s), as dataset.json declares; there are {other[0].channels}. Correct the "
            "declaration, or add what is missing."
        )
        yield Finding("warning", "channels", "", message)


def duplicates(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find images that occur more than once."""
    by_digest: dict[str, list[str]] = {}
    for fact in facts:
        by_digest.setdefault(fact.digest, []).append(fact.name)
    for names in (names for names in by_digest.values() if len(names) > 1):
        message = (
            f"{', '.join(names)}: the same image. Keep one of them; a partition that is "
            "`stratified` keeps them in one part."
        )
        yield Finding("warning", "duplicate", names[0], message)


def ignored(folder: DataFolder) -> Iterator[Finding]:
    """Find files of unknown formats, and folders that are not searched."""
    # A table lists what is meant, and studies are searched to the end.
    if folder.root.is_file() or any(case.slices for case in folder.cases):
        return
    files = {
        path
        for case in folder.cases
        for path in (*case.images, *[p for a in case.labels for p in a.paths])
    }
    used = files | {parent for path in files for parent in path.parents}
    for parent in sorted({path.parent for case in folder.cases for path in case.images}):
        if subfolders := sorted(
            path.name for path in entries(parent) if path.is_dir() and path not in used
        ):
            message = (
                f"{parent}: the folders {', '.join(subfolders[:5])} are not searched. Move their "
                "images up, if they matter."
            )
            yield Finding("warning", "ignored", "", message)
    for parent in sorted({path.parent for path in files}):
        unreadable = [
            p.name
            for p in entries(parent)
            if p.is_file()
            and p not in used
            and not label_suffix_of(p)
            and not p.name.lower().endswith(_SIDE_FILES)
        ]
        if unreadable:
            yield Finding(
                "warning",
                "ignored",
                "",
                f"{parent}: files of unknown format: {first_few(unreadable)}. Convert them, if "
                "they matter.",
            )
