"""A self-contained HTML page of tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from cdal.runtime.files import write_text

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: right;
  border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } p { max-width: 48rem; }
</style></head><body>
<h1>{{ title }}</h1>
{% for section in sections %}<h2>{{ section.heading }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.table %}<table>
<tr>{% for cell in section.table[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in section.table[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% for picture in section.pictures %}
<img src="data:image/png;base64,{{ picture }}" alt="{{ section.heading }}">
{% endfor %}{% endfor %}</body></html>
"""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        heading: heading of the section.
        text: paragraph under the heading.
        table: rows of cells; the first row holds the column headings.
        pictures: PNG pictures, base64-encoded.
    """

    heading: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[str] = ()


def write_report(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write the page atomically and return its path."""
    page = Environment(autoescape=True).from_string(_PAGE).render(title=title, sections=sections)
    write_text(path, page)
    return path
