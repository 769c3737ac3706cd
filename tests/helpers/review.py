"""Folders of results as `cdal predict` writes them, and what a browser finds on their page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.formats import write_label, write_values
from cdal.imaging.image import Image
from helpers.files import disc, picture

VOID = {"meta", "input", "img"}


def row(source: Path | str, **fields: Any) -> dict[str, Any]:
    """A row of `predictions.json` as older versions wrote it, with other fields."""
    made: dict[str, Any] = {
        "model": "discs",
        "input": str(source),
        "volume": {"disc": 1256.0},
        "unit": "pixels",
        "mean_uncertainty": 0.1,
    }
    return made | fields


def quality(
    dice: float | None, interval: list[float] | None = None, volume: list[float] | None = None
) -> dict[str, Any]:
    """The estimate of the quality of a class."""
    return {"expected_dice": dice, "dice_interval": interval, "volume_interval": volume}


def write_record(folder: Path, rows: list[Any], **fields: Any) -> Path:
    """A folder with `predictions.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": "0.1.0", "predictions": rows, "failed": {}} | fields
    (folder / "predictions.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def discs(root: Path, count: int, **fields: Any) -> Path:
    """Results of `count` pictures of discs, with masks and uncertainties.

    The images are `root/images/c0.png`, ...; the results are in `root/results`.
    """
    results, rows = root / "results", []
    results.mkdir(parents=True)
    for k in range(count):
        source = picture(root / "images" / f"c{k}.png", 150 * disc(40, 10 + k % 5))
        rows.append(row(source, **write_results(results, f"c{k}", 40, 10 + k % 5), **fields))
    return write_record(results, rows)


def write_results(results: Path, name: str, size: int, radius: float) -> dict[str, str]:
    """A mask and an uncertainty of a disc; returns their names by kind."""
    like = Image(np.zeros((1, size, size), np.float32), suffix=".png")
    inside = disc(size, radius)
    ring = inside.astype(np.float32) - disc(size, radius - 2)
    return {
        "mask": write_label(results / f"{name}_mask", inside, like).name,
        "uncertainty": write_values(results / f"{name}_uncertainty", 0.5 * ring, like).name,
    }


class Page(HTMLParser):
    """The elements of a page.

    Attributes:
        tags: name and attributes of each element, in their order.
        texts: text of each element that has any, as `(tag, text)`.
        bodies: `(attributes, text)` of each body of a table.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.bodies: list[tuple[dict[str, str], str]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "tbody":
            self.bodies.append((found, ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.append((self._open[-1], data.strip()))
            if "tbody" in self._open:
                attributes, text = self.bodies[-1]
                self.bodies[-1] = attributes, f"{text} {data.strip()}".strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of the elements of a kind."""
        return [found for name, found in self.tags if name == tag]

    def texts_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def names(self) -> list[str]:
        """Names of the cases, in their order."""
        return [found["data-name"] for found, _ in self.bodies if "data-name" in found]

    def facts(self) -> dict[str, str]:
        """What stands at the head of the page."""
        return dict(zip(self.texts_of("dt"), self.texts_of("dd"), strict=True))
