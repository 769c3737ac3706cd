"""The blocks of code in the documentation: what they are, and a reader who runs them.

A block that cannot run here is marked in the page, invisibly for who reads it, on the line above:
`<!-- not run: needs a GPU -->`. `python -m helpers.blocks` lists all blocks.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import stand_ins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for part in ("start", "guides") for path in (DOCS / part).glob("*.md"))

_BLOCK = re.compile(
    r"^(?P<fence>```|~~~)(?P<language>\w*)\n(?P<fenced>(?s:.*?))^(?P=fence)[ ]*$"
    r"|(?<=\n\n)(?P<indented>(?: {4}.*\n)+)",
    re.MULTILINE,
)
_MARK = re.compile(r"<!-- not run: (?P<reason>[^>]+?) -->\s*\Z")
_VARIABLE = re.compile(r"[A-Z_]+=\S*")
PROGRAMS = ("cdal", "pip", "make", "python", "curl")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: path below `docs`, `guides/export.md`.
        line: number of its first line.
        language: `python`, `shell`, or `text` for listings and files.
        code: its lines.
        reason: why it is not run; empty if it is.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str = ""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a block of the shell."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        indented = match["indented"] or ""
        code = match["fenced"] or "".join(
            line.removeprefix("    ") for line in indented.splitlines(keepends=True)
        )
        mark = _MARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        name = page.relative_to(DOCS).as_posix()
        language = _language(match["language"] or "", code)
        found.append(Block(name, line, language, code, mark["reason"] if mark else ""))
    return found


def _language(named: str, code: str) -> str:
    if named in ("python", "text", "json", "yaml", "nginx"):
        return named if named == "python" else "text"
    lines = [line.split() for line in code.splitlines()]
    shell = named in ("bash", "sh", "shell") or any(
        word in PROGRAMS for line in lines for word in line
    )
    return "shell" if shell else "text"


class Reader:
    """Somebody who types a page's blocks one after the other, in an empty folder.

    What a block needs and the folder has not is made small by `stand_ins`.

    Args:
        folder: the working directory.
        page: path of the page below `docs`.
    """

    def __init__(self, folder: Path, page: str) -> None:
        self._made = stand_ins.StandIns(folder, page)
        self._names: dict[str, Any] = {}
        self.page = page
        self._asked: dict[str, str] = {}

    def run(self, block: Block) -> None:
        """Run a block; whatever fails is an exception that says so."""
        if block.language == "python":
            code = stand_ins.smaller_code(self.page, block.code)
            self._made.need(re.findall(r"\"([^\"\n]+)\"", code))
            if named := re.match(r"# (\w+\.py)\n", code):
                Path(named[1]).write_text(code, encoding="utf-8")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, f"{block.page}:{block.line}", "exec"), self._names)
            return
        for words in block.commands:
            while _VARIABLE.fullmatch(words[0]):
                name, _, value = words.pop(0).partition("=")
                assert (name, value) == ("PYTHONPATH", "."), f"{block.page}: what is {name}?"
                sys.path.insert(0, str(self._made.folder))
            run = getattr(self, f"_{words[0]}", None)
            assert run, f"{block.page}:{block.line}: what is {words[0]}? Run it, or mark the block."
            run(words[1:])

    def _cdal(self, words: list[str]) -> None:
        from cdal.cli import main

        into = words[words.index(">") + 1] if ">" in words else None
        words = words[: words.index(">")] if into else words
        self._made.need_for(words)
        out, error = io.StringIO(), io.StringIO()
        typed = [*words, *stand_ins.smaller(words)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                code = main(typed)
            except SystemExit as end:  # as --version does
                code = end.code
        assert code in (0, None), f"cdal {shlex.join(typed)}: exit {code}\n{error.getvalue()}"
        if into:
            Path(into).write_text(out.getvalue(), encoding="utf-8")

    def _pip(self, words: list[str]) -> None:
        """The extra that is to be installed exists."""
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert words[0] == "install"
        for extra in re.findall(r"\[(\w+)\]", " ".join(words[1:])):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"no extra {extra}"

    def _make(self, words: list[str]) -> None:
        """The target exists."""
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[0])}:", makefile, re.MULTILINE), words

    def _curl(self, words: list[str]) -> None:
        """Ask the server of this page, which is started by its first question."""
        answer = self._made.ask([self._asked.get(word, word) for word in self._known(words)])
        with contextlib.suppress(ValueError):
            self._asked |= {
                name.upper(): value
                for name, value in json.loads(answer).items()
                if name in ("job", "case")
            }

    def _known(self, words: list[str]) -> Iterator[str]:
        """The words with the names that the server gave in place of JOB and CASE."""
        for word in words:
            for name, value in self._asked.items():
                word = re.sub(rf"\b{name}\b", value, word)
            yield word

    def close(self) -> None:
        """End what has been started."""
        self._made.close()
        if (here := str(self._made.folder)) in sys.path:
            sys.path[:] = [path for path in sys.path if path != here]
            for path in self._made.folder.glob("*.py"):
                sys.modules.pop(path.stem, None)


@contextlib.contextmanager
def reading(folder: Path, page: str) -> Iterator[Reader]:
    """A reader of a page, whose working directory is the folder."""
    before = Path.cwd()
    os.chdir(folder)
    reader = Reader(folder, page)
    try:
        yield reader
    finally:
        reader.close()
        os.chdir(before)


def overview() -> list[str]:
    """How many blocks there are, and the marked ones with their reasons."""
    found = [block for page in PAGES for block in blocks(page)]
    marked = [block for block in found if block.reason]
    kinds = {
        kind: sum(block.language == kind and not block.reason for block in found)
        for kind in ("shell", "python", "text")
    }
    return [
        f"{kinds['shell']} blocks of the shell and {kinds['python']} of Python are run, "
        f"{len(marked)} are marked; {kinds['text']} are listings",
        *(f"{block.page}:{block.line}: {block.reason}" for block in marked),
    ]


def run_curl(words: list[str], address: str) -> str:
    """Run curl, which has to be there, with another address."""
    program = shutil.which("curl")
    assert program
    typed = [re.sub(r"http://127\.0\.0\.1:8000", address, word) for word in words]
    done = subprocess.run(
        [program, "--fail-with-body", "--silent", "--show-error", *typed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"curl {shlex.join(typed)}: {done.stderr}{done.stdout}"
    return done.stdout


if __name__ == "__main__":
    print("\n".join(overview()))
