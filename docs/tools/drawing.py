"""Boxes, arrows and words as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, PAPER, FAINT = "#1f2328", "#ffffff", "#6e7781"


class Drawing:
    """A picture to which shapes are added; coordinates are pixels from the top left corner.

    Args:
        width: width of the picture.
        height: height of the picture.
        title: what it shows, for who cannot see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}" '
            'font-family="system-ui, sans-serif">'
        )
        self._fields: list[str] = []
        self._parts: list[str] = []
        self._start = [
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{INK}"/>'
            "</marker></defs>",
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        ]

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        fill: str = PAPER,
        dashed: bool = False,
    ) -> None:
        """A box; the lines of its text are centred in it."""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" '
            f'stroke="{INK}"{dashes}/>'
        )
        lines = text.split("\n") if text else []
        top = y + height / 2 - 7.5 * (len(lines) - 1) + 4
        for i, line in enumerate(lines):
            self.text(x + width / 2, top + 15 * i, line)

    def field(self, x: float, y: float, width: float, height: float, text: str, fill: str) -> None:
        """An area behind all other shapes, with its text in the corner."""
        self._fields.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}"/>'
        )
        self.text(x + 10, y + 18, text, anchor="start", weight="bold")

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """An arrow through some points."""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{_points(points)}" fill="none" stroke="{INK}"{dashes} '
            'marker-end="url(#tip)"/>'
        )

    def plus(self, x: float, y: float) -> None:
        """A sum."""
        self._parts.append(
            f'<circle cx="{x}" cy="{y}" r="9" fill="{PAPER}" stroke="{INK}"/>'
            f'<path d="M{x - 5} {y}H{x + 5}M{x} {y - 5}V{y + 5}" stroke="{INK}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: str = "middle",
        weight: str = "normal",
        colour: str = INK,
    ) -> None:
        """A line of text."""
        self._parts.append(
            f'<text x="{x}" y="{y}" font-size="12" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(text)}</text>'
        )

    def svg(self) -> str:
        """The picture."""
        return "\n".join([self._head, *self._start, *self._fields, *self._parts, "</svg>\n"])


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
