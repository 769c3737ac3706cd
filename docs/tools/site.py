"""The documentation site: `python -m tools.site [FOLDER]`, which `make docs` and `make lint` call.

The pages are copied to `build/pages` at the places that they have in the repository, so that their
links work in both. Zensical builds them strictly: a link to a page or a heading that does not
exist ends the build. So does a page that `mkdocs.yml` does not name, and a built page that asks
another host for a script, a style, a font or a picture.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = "mkdocs.yml"
COPIED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "docs/**/*",
    "models/*.md",
    "benchmarks/**/*.md",
    "clients/**/*",
)
_MATH = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"<!-- code: ([\w.]+) -->")
_NOT_COPIED = ("tools", "__pycache__")

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
_LINKED = {"stylesheet", "icon", "preconnect", "preload", "prefetch", "dns-prefetch", "manifest"}
_IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)")


class SiteError(Exception):
    """What is wrong with the site, for whoever builds it."""


def build(place: Path = ROOT) -> Path:
    """Build the site of this repository in a folder, and return the folder of its pages.

    Raises:
        SiteError: a page is missing, a link leads nowhere, or a page asks another host.
    """
    pages = collect(place / "build" / "pages")
    if missing := unlisted(pages):
        raise SiteError(f"{CONFIG} does not name these pages: {', '.join(missing)}")
    if place != ROOT:
        shutil.copy(ROOT / CONFIG, place)
        (place / "src").symlink_to(ROOT / "src")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).split("Traceback")[0]
        raise SiteError(re.sub(r"\x1b\[[0-9;]*m", "", said).strip())
    site = place / "site"
    if asked := sorted({f"{page}: {address}" for page, address in requests(site)}):
        raise SiteError("These pages ask other hosts:\n" + "\n".join(asked))
    return site


def collect(pages: Path) -> Path:
    """Copy all pages, and the files that they link to, into a new folder.

    Raises:
        SiteError: a page shows code that does not exist.
    """
    shutil.rmtree(pages, ignore_errors=True)
    for pattern in COPIED:
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT)
            if path.is_file() and not set(name.parts) & set(_NOT_COPIED):
                (pages / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, pages / name)
    for notebook in pages.rglob("*.ipynb"):
        notebook.with_suffix(".md").write_text(_notebook(notebook), encoding="utf-8")
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        text = _CODE.sub(_code, _MATH.sub(_math, text)).replace(".ipynb)", ".md)")
        page.write_text(text, encoding="utf-8")
    return pages


def _notebook(path: Path) -> str:
    """The cells of a notebook as a page."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if code else text for code, text in texts)


def _math(block: re.Match[str]) -> str:
    """An equation as MathML, which browsers show without any script."""
    from latex2mathml.converter import convert

    return f"<div>{convert(block[1].strip(), display='block')}</div>\n"


def source_of(name: str) -> str:
    """The source of a function or class by its name, `cdal.room.module.Class.function`.

    Raises:
        SiteError: there is none.
    """
    module, names = name, list[str]()
    while module and not (ROOT / "src" / f"{module.replace('.', '/')}.py").is_file():
        module, _, last = module.rpartition(".")
        names.insert(0, last)
    if not module:
        raise SiteError(f"A page shows the code of {name}, which does not exist.")
    path = ROOT / "src" / f"{module.replace('.', '/')}.py"
    text = path.read_text(encoding="utf-8")
    found: ast.AST = ast.parse(text)
    for part in names:
        inner = getattr(found, "body", [])
        found = next((node for node in inner if getattr(node, "name", "") == part), ast.Pass())
    source = ast.get_source_segment(text, found, padded=True) if hasattr(found, "name") else None
    if source is None:
        raise SiteError(f"A page shows the code of {name}, which does not exist.")
    return textwrap.dedent(source)


def _code(mark: re.Match[str]) -> str:
    """The source of a function, to be unfolded, in place of a mark that names it."""
    return (
        f'<details markdown="1"><summary>Code: {mark[1].removeprefix("cdal.")}</summary>\n\n'
        f"```python\n{source_of(mark[1])}\n```\n\n</details>"
    )


def unlisted(pages: Path) -> list[str]:
    """The pages that the navigation does not name, and its names that no page has."""
    navigation = (ROOT / CONFIG).read_text(encoding="utf-8").split("\nnav:\n")[1]
    named = set(re.findall(r"^ *- (?:[^:\n]+: )?(\S+\.md)$", navigation, re.MULTILINE))
    there = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    return sorted(named ^ there)


def requests(site: Path) -> Iterator[tuple[str, str]]:
    """What a browser would load from other hosts: pairs of a file and an address."""
    for path in sorted(site.rglob("*.html")):
        loads = _Loads()
        loads.feed(path.read_text(encoding="utf-8"))
        for address in loads.addresses:
            if re.match(r"(?:https?:)?//", address):
                yield path.relative_to(site).as_posix(), address
    for path in sorted(site.rglob("*.css")):
        for address in _IN_STYLE.findall(path.read_text(encoding="utf-8")):
            yield path.relative_to(site).as_posix(), address


class _Loads(HTMLParser):
    """The addresses that a page loads by itself; links that a reader may follow are none."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        self.addresses += _IN_STYLE.findall(given.get("style", ""))
        if tag in _LOADED:
            self.addresses.append(given.get(_LOADED[tag], ""))
        elif tag == "link" and set(given.get("rel", "").split()) & _LINKED:
            self.addresses.append(given.get("href", ""))

    def handle_data(self, data: str) -> None:
        if self._style:
            self.addresses += _IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._style = False


def main() -> int:
    """Build the site and say where it is, or what is wrong."""
    if sys.version_info < (3, 11):
        print("The site is not built: Zensical needs Python 3.11 or newer.")
        return 0
    try:
        print(build(Path(sys.argv[1]) if sys.argv[1:] else ROOT))
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
