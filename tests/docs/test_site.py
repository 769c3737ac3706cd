"""The documentation site: what its pages load, which pages it has, and that its build is strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import site

pytest.importorskip("latex2mathml")


def test_the_navigation_names_all_pages_and_no_others(tmp_path: Path):
    pages = site.collect(tmp_path / "pages")
    assert site.unlisted(pages) == []
    (pages / "docs" / "new.md").write_text("# New")
    (pages / "docs" / "start" / "install.md").unlink()
    assert site.unlisted(pages) == ["docs/new.md", "docs/start/install.md"]


def test_pages_that_are_copied_hold_no_code_of_ours(tmp_path: Path):
    pages = site.collect(tmp_path / "pages")
    assert not list(pages.rglob("*.py"))
    assert not list(pages.rglob("*.safetensors"))


def test_equations_code_and_notebooks_become_part_of_the_page(tmp_path: Path):
    pages = site.collect(tmp_path / "pages")
    equations = (pages / "docs/method/equations.md").read_text(encoding="utf-8")
    assert "```math" not in equations
    assert "<math" in equations
    assert "def posterior_weights(" in equations
    assert "    return (\n        alpha.sqrt() * (1 - alpha_bar_previous)" in equations
    assert "<!-- code" not in equations
    notebook = (pages / "docs/notebooks/segment.md").read_text(encoding="utf-8")
    assert notebook.startswith("# Segment and look\n")
    assert '```python\nimport cdal\n\npredictor = cdal.load("hippocampus")' in notebook
    assert "(segment.md)" in (pages / "docs/notebooks/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cdal.inference.decision.gone", "cdal.gone", "gone", "cdal"])
def test_code_that_does_not_exist_is_not_shown(name: str):
    with pytest.raises(site.SiteError, match="does not exist"):
        site.source_of(name)


@pytest.mark.parametrize(
    ("html", "asked"),
    [
        ('<script src="https://a.org/b.js"></script>', ["https://a.org/b.js"]),
        ('<script src="//a.org/b.js"></script>', ["//a.org/b.js"]),
        ('<link rel="stylesheet" href="https://a.org/b.css">', ["https://a.org/b.css"]),
        ('<link rel="preconnect" href="https://fonts.org">', ["https://fonts.org"]),
        ('<img alt="" src=https://a.org/b.png>', ["https://a.org/b.png"]),
        ("<style>@import 'https://a.org/b'; </style>", ["https://a.org/b"]),
        ('<p style="background: url(https://a.org/b)">', ["https://a.org/b"]),
        ('<a href="https://a.org">a</a> <code>url(https://b.org)</code>', []),
        ('<link rel="canonical" href="https://a.org"><img src="a/b.png"><script>1</script>', []),
    ],
)
def test_what_a_page_loads_from_other_hosts_is_found(html: str, asked: list[str], tmp_path: Path):
    (tmp_path / "page.html").write_text(html)
    assert [address for _, address in site.requests(tmp_path)] == asked


def test_what_a_style_loads_from_other_hosts_is_found(tmp_path: Path):
    (tmp_path / "page.css").write_text(
        '@font-face { src: url("https://a.org/b") } a { url(b.png) }'
    )
    assert list(site.requests(tmp_path)) == [("page.css", "https://a.org/b")]


@pytest.mark.slow
def test_the_build_is_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("zensical")
    (tmp_path / "right").mkdir()
    built = site.build(tmp_path / "right")
    assert (built / "index.html").is_file()
    assert "Load a model, ready to predict" in (built / "docs/reference/python.html").read_text()

    collect = site.collect

    def with_a_broken_link(pages: Path) -> Path:
        page = collect(pages) / "docs" / "start" / "install.md"
        page.write_text("# Install\n\n[gone](gone.md) [no heading](README.md#gone)\n")
        return pages

    monkeypatch.setattr(site, "collect", with_a_broken_link)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(site.SiteError, match=r"(?s)page does not exist.*anchor does not exist"):
        site.build(tmp_path / "wrong")
