"""Pages: self-contained, and with every character as it is."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image as Pillow

from cdal.evaluation.page import Section, write_report
from cdal.evaluation.pictures import embed


class Page(HTMLParser):
    """What a browser finds: text by tag, and attributes of pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.found.append((self.open[-1], data.strip()))

    def texts(self, tag: str) -> list[str]:
        return [text for kind, text in self.found if kind == tag]


def test_sections_stand_in_their_order_with_tables_and_texts(tmp_path: Path):
    table = [("score", "mean"), ("Dice", "0.91"), ("HD95 < 3 mm", "2.4")]
    sections = [Section("First", "A paragraph."), Section("Second", table=table)]
    page = Page(write_report(tmp_path / "page.html", "Phantoms", sections))
    assert page.texts("title") == page.texts("h1") == ["Phantoms"]
    assert page.texts("h2") == ["First", "Second"]
    assert page.texts("p") == ["A paragraph."]
    assert page.texts("th") == ["score", "mean"]
    assert page.texts("td") == ["Dice", "0.91", "HD95 < 3 mm", "2.4"]


def test_no_text_is_taken_for_markup(tmp_path: Path):
    """A class or a case may have any name."""
    name = "<script>alert('a & \"b\"')</script>"
    page = Page(
        write_report(tmp_path / "page.html", name, [Section(name, name, [(name,), (name,)])])
    )
    assert "script" not in {tag for tag, _ in page.found}
    for tag in ("title", "h1", "h2", "p", "th", "td"):
        assert "".join(page.texts(tag)) == name, tag


def test_pictures_are_in_the_page_itself(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 255, size=(5, 7, 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    sections = [Section("Seen", pictures=[embed(tmp_path / "a.png"), embed(figure)])]
    page = Page(write_report(tmp_path / "page.html", "x", sections))
    sources = [str(picture["src"]) for picture in page.pictures]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert [picture["alt"] for picture in page.pictures] == ["Seen", "Seen"]
    first, second = (
        Pillow.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) for source in sources
    )
    np.testing.assert_array_equal(np.asarray(first), pixels)
    assert np.ptp(np.asarray(second.convert("L"))) > 100
