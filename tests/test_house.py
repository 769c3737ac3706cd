"""The plan of the house: small files, small functions, rooms that import only what
is below them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cdal

ROOT, PACKAGE = Path(__file__).parents[1], Path(cdal.__file__).parent
FILES = sorted(
    path
    for top in (PACKAGE, *(ROOT / name for name in ("tests", "benchmarks", "docs")))
    for path in top.rglob("*.py")
)
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_LOOSE = 400, 80, 3


def functions(path: Path) -> dict[str, int]:
    """Lines of each function of a file, its decorators left out."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    ]
    return {f"{path.name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in found}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_and_functions_are_small(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert {
        name: lines for name, lines in functions(path).items() if lines > MOST_LINES_OF_A_FUNCTION
    } == {}


def test_few_modules_lie_loose():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_LOOSE


def test_recipes_need_neither_pytorch_nor_monai():
    """Settings are the header of a model file, which is read where no network is."""
    code = """
import sys
from cdal.recipes.recipe import from_dict
from cdal.recipes.systems import SYSTEMS
for name, system in SYSTEMS.items():
    dims = max(system.settings().dims)
    from_dict({"segmenter": {"name": name}, "data": {"spatial_dims": dims, "size": dims * [64]}})
sys.exit(any(name.split(".")[0] in ("torch", "monai") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
