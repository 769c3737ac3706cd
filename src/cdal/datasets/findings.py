"""What a look at a data folder gives: findings, and facts of its cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from cdal.datasets.layout import DataFolder
from cdal.runtime.errors import UserError

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """Something worth knowing.

    Attributes:
        level: `error` stops a training; `warning` may spoil it; `note` is for information.
        kind: a word to sort by: unreadable, missing, shape, affine, values, empty, constant, not-finite, duplicate, type, channels,
            spacing, table, partition, ignored.
        case: its name, or nothing where the whole folder is meant.
        message: what was expected, what came and what to do.
    """

    level: Level
    kind: str
    case: str
    message: str


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a readable case.

    Attributes:
        name: of the case.
        shape: `*S`, of a volume with a place in space in the order right, anterior, superior.
        channels: of the image.
        gray: whether it has three channels that are alike.
        stored: the type of its numbers on disk.
        spacing: millimetres, in the same order; none for images without a place in space.
        low: the smallest number.
        high: the largest number.
        voxels: of each value, in the labels of all annotators; a class's mask stands for the class's place in the names.
        drawn: the values but 0 that each annotator used.
        object_size: extent of a typical object (weighted by area) as a share of the image's longer side; 0 for empty masks.
        digest: of the image.
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

    @property
    def foreground(self) -> float:
        """The share of the voxels that are of a class."""
        return 1 - self.voxels.get(0, 0) / max(1, sum(self.voxels.values()))


@dataclass(frozen=True)
class Check:
    """The outcome.

    Attributes:
        folder: with its classes, those found where none are declared, and what was seen of its cases, see `_known`.
        findings: errors first.
        facts: of the cases that could be read.
    """

    folder: DataFolder
    findings: tuple[Finding, ...]
    facts: tuple[CaseFacts, ...]

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop a training."""
        return [finding for finding in self.findings if finding.level == "error"]

    def need_no_errors(self) -> None:
        """Refuse the folder if there are errors.

        Raises:
            UserError: lists the first of them.
        """
        if errors := self.errors:
            listed = "\n".join(f"  {finding.message}" for finding in errors[:5])
            more = f"\n  and {len(errors) - 5} more" if len(errors) > 5 else ""
            raise UserError(
                f"{self.folder.root} cannot be used as it is; `cdal check {self.folder.root}` shows all that was found:\n"
                f"{listed}{more}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As `cdal check --json` prints it."""
        return {
            "data": str(self.folder.root),
            "cases": len(self.folder.cases),
            "classes": dict(zip(self.folder.classes, self.folder.values, strict=True)),
            "errors": len(self.errors),
            "findings": [asdict(finding) for finding in self.findings],
            "facts": [asdict(fact) for fact in self.facts],
        }
