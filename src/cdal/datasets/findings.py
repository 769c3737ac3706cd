"""Results of checking a data folder: findings, and facts about the cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cdal.datasets.layout import DataFolder
from cdal.runtime.errors import UserError
from cdal.runtime.text import printable

FEWEST = 3
"""Number of cases that a training needs: one for each part."""

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A problem with a data folder, or a remark about it.

    Attributes:
        level: `error` prevents training, `warning` may spoil it, `note` is for information.
        kind: category: unreadable, missing, shape, affine, values, empty, constant, not-finite,
            duplicate, type, channels, spacing, table, partition, annotation or ignored.
        case: name of the case; empty if the finding concerns the whole folder.
        message: what was expected, what was found, and the remedy.
    """

    level: Level
    kind: str
    case: str
    message: str

    def __post_init__(self) -> None:
        """Keep what names of files hold from controlling a terminal."""
        object.__setattr__(self, "message", printable(self.message))


@dataclass(frozen=True)
class CaseFacts:
    """Facts about a readable case.

    Attributes:
        name: name of the case.
        shape: shape without channels, `*S`. The axes of a volume with geometry are in the order
            right, anterior, superior.
        channels: number of channels.
        gray: whether the image has three equal channels.
        stored: type of the numbers on disk.
        spacing: millimetres per voxel, in the order of `shape`; `None` for images without geometry.
        low: smallest intensity.
        high: largest intensity.
        voxels: number of voxels per value, summed over the annotators. If there is one mask per
            class, the values are the indices of the classes.
        drawn: values other than 0 that each annotator used.
        object_size: extent of a typical object (weighted by area) relative to the image's longer
            side; 0 for volumes and empty masks.
        digest: checksum of the image.
        palette: colour of each value of the labels, if they have a palette.
        centre: middle of the foreground of all annotators, relative to the shape: 0.5 is the
            middle of the image. `None` if nothing is drawn.
        numbered: whether the values are 1 to N and each of them is one connected object.
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    gray: bool
    stored: str
    spacing: tuple[float, ...] | None
    low: float
    high: float
    voxels: dict[int, int]
    drawn: tuple[tuple[int, ...], ...]
    object_size: float
    digest: str
    palette: Mapping[int, int] = field(default_factory=dict)
    centre: tuple[float, ...] | None = None
    numbered: bool = False

    @property
    def foreground(self) -> float:
        """Share of the voxels that belong to a class other than background."""
        return 1 - self.voxels.get(0, 0) / max(1, sum(self.voxels.values()))


@dataclass(frozen=True)
class Check:
    """Result of `check_folder`.

    Attributes:
        folder: data folder with its classes (those found in the labels if none are declared) and
            with the columns that stratified partitions need in `about`.
        findings: findings, errors first.
        facts: facts about the readable cases.
    """

    folder: DataFolder
    findings: tuple[Finding, ...]
    facts: tuple[CaseFacts, ...]

    @property
    def errors(self) -> list[Finding]:
        """Findings that prevent training."""
        return [finding for finding in self.findings if finding.level == "error"]

    def need_no_errors(self) -> None:
        """Raise an error if the folder cannot be used.

        Raises:
            UserError: there are errors; the message lists the first five.
        """
        if errors := self.errors:
            listed = "\n".join(f"  {finding.message}" for finding in errors[:5])
            more = f"\n  and {len(errors) - 5} more" if len(errors) > 5 else ""
            raise UserError(
                f"{self.folder.root} cannot be used as it is; `cdal check {self.folder.root}` "
                "shows all that was found:\n"
                f"{listed}{more}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the result as printed by `cdal check --json`."""
        return {
            "data": str(self.folder.root),
            "layout": self.folder.layout,
            "cases": len(self.folder.cases),
            "classes": dict(zip(self.folder.classes, self.folder.values, strict=True)),
            "errors": len(self.errors),
            "findings": [asdict(finding) for finding in self.findings],
            "facts": [asdict(fact) for fact in self.facts],
        }
