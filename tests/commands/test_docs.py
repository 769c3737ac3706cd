"""The documentation: its links, its length, and that it names what the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = ROOT / "src" / "cdal"

PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *DOCS.rglob("*.md"),
        *(ROOT / "models").glob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
    }
)

_FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:(?: {4,}|\t).*(?:\n|\Z)|\n(?= {4,}|\t))+")
_INLINE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(
    r"!?\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\(\s*<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)"
)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_MADE_LATER = ("benchmarks/gpu/packed",)
_CODE_PATH = re.compile(r"`((?:src|tests|docs|benchmarks|models)/[\w./-]+)`")


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return _INDENTED.sub("\n", _FENCED.sub("\n", text))


def links(page: Path) -> Iterator[str]:
    """The relative links and images of a page."""
    found = _LINK.findall(_INLINE.sub("`code`", prose(page.read_text(encoding="utf-8"))))
    return (link for link in found if not re.match(r"[a-z][a-z0-9+.-]*:", link, re.IGNORECASE))


def anchors(page: Path) -> set[str]:
    """What a `#` can point to.

    Headings as GitHub names them, the second of the same name with -1.
    """
    names: set[str] = set()
    for heading in _HEADING.findall(prose(page.read_text(encoding="utf-8"))):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        base = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        count = 0
        while (name := f"{base}-{count}" if count else base) in names:
            count += 1
        names.add(name)
    return names


def target(page: Path, link: str) -> tuple[Path, str]:
    """The file of a link, and the heading if one is named."""
    path, _, anchor = link.partition("#")
    return (page if not path else (page.parent / path).resolve()), anchor


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_point_to_files_and_headings_of_the_repository(page: Path):
    broken = []
    for link in links(page):
        path, anchor = target(page, link)
        if not path.is_relative_to(ROOT) or not path.exists():
            broken.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(path):
            broken.append(f"{link}: no such heading")
    assert not broken, f"{title(page)}:\n" + "\n".join(broken)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_paths_in_the_text_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    named = {
        path for path in _CODE_PATH.findall(text) if "NAME" not in path and path not in _MADE_LATER
    }
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


def test_every_page_can_be_reached_by_links():
    reached: set[Path] = set()
    waiting = [ROOT / "README.md", DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting += [target(page, link)[0] for link in links(page)]
    assert {title(page) for page in PAGES} <= {title(page) for page in reached}


def test_every_folder_of_pages_has_an_index_that_names_them():
    for folder in sorted({page.parent for page in DOCS.rglob("*.md")}):
        named = {target(folder / "README.md", link)[0] for link in links(folder / "README.md")}
        pages = {page for page in folder.glob("*.md") if page.name != "README.md"}
        if (
            folder != DOCS / "results"
        ):  # whose pages of single experiments are named by the pages about them
            assert pages <= named, (
                f"{title(folder)}/README.md does not name {sorted(map(title, pages - named))}"
            )


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 500


def test_every_option_of_the_command_line_is_described():
    described = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert not [
        option for option in sorted(options()) if not re.search(rf"{option}(?![\w-])", described)
    ]


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("settings.py", "DataSettings"),
        ("settings.py", "TrainingSettings"),
        ("cdal.py", "CDALSettings"),
    ],
)
def test_every_field_of_a_recipe_is_described(module: str, settings: str):
    described = (DOCS / "reference" / "recipe.md").read_text(encoding="utf-8")
    assert not [
        field
        for field in fields(CODE / "recipes" / module, settings)
        if f"`{field}`" not in described
    ]


def test_every_field_of_sampling_and_of_an_event_is_described():
    described = (DOCS / "guides" / "python.md").read_text(encoding="utf-8")
    names = fields(CODE / "inference" / "sampling.py", "Sampling") | fields(
        CODE / "runtime" / "events.py", "Event"
    )
    assert not [field for field in sorted(names) if f"`{field}`" not in described]


def test_every_public_name_is_described():
    described = (DOCS / "guides" / "python.md").read_text(encoding="utf-8")
    tree = ast.parse((CODE / "__init__.py").read_text(encoding="utf-8"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets[0])
    ]
    assert not [
        name
        for name in ast.literal_eval(values[0])
        if f"cdal.{name}" not in described and name != "__version__"
    ]


def test_every_shipped_name_is_described():
    pages = {
        "SYSTEMS": (CODE / "recipes" / "systems.py", DOCS / "method" / "systems" / "README.md"),
        "RECIPES": (CODE / "recipes" / "__init__.py", DOCS / "guides" / "training.md"),
        "OUTPUTS": (CODE / "inference" / "outputs.py", DOCS / "guides" / "prediction.md"),
        "VERBS": (CODE / "cli" / "__init__.py", DOCS / "reference" / "command-line.md"),
    }
    for table, (module, page) in pages.items():
        text = page.read_text(encoding="utf-8")
        assert not [name for name in keys(module, table) if f"`{name}`" not in text], (
            f"{title(page)}, {table}"
        )


def test_every_suffix_that_can_be_read_is_described():
    described = (DOCS / "reference" / "formats.md").read_text(encoding="utf-8")
    tree = ast.parse((CODE / "imaging" / "formats" / "__init__.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Format"
    ]
    suffixes = {suffix for call in calls for suffix in ast.literal_eval(call.args[1])}
    assert suffixes
    assert not [suffix for suffix in sorted(suffixes) if f"`{suffix}`" not in described]


def test_links_and_headings_are_recognised(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# `cdal`, its *twin*\n\n[a](b.md#c) ![d](e.png) <f> `[g](h)`\n\n    "
        "[i](j)\n\n```\n[k](l)\n# no\n```\n\n"
        "## Same\n\n## Same\n\n[m](https://n) [![o](p.png)](q.md)\n",
        encoding="utf-8",
    )
    assert list(links(page)) == ["b.md#c", "e.png", "q.md"]
    assert anchors(page) == {"cdal-its-twin", "same", "same-1"}


def options() -> set[str]:
    """Every option that a verb of the command line adds, by reading its source."""
    settings = (("inference/sampling.py", "Sampling"), ("serve/settings.py", "Serving"))
    found: set[str] = {
        f"--{name.replace('_', '-')}"
        for module, kind in settings
        for name in fields(CODE / module, kind)
    }
    for module in (CODE / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "add_argument"
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant) and str(first.value).startswith("--"):
                    found.add(first.value)
    return found


def fields(module: Path, name: str) -> set[str]:
    """The fields of a dataclass, by reading its source."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    (kind,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return {
        node.target.id
        for node in kind.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def keys(module: Path, table: str) -> list[str]:
    """The keys of a dictionary at the top of a module, by reading its source."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        names = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if any(isinstance(name, ast.Name) and name.id == table for name in names) and isinstance(
            node.value, ast.Dict
        ):
            return [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
    raise AssertionError(f"{module} has no table {table}")
