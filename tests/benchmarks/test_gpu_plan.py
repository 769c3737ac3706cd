"""The plan for a GPU (`benchmarks/gpu`), rehearsed from packing to the page in an environment like
that of the other machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from helpers.data import SHARED, real

ROOT = Path(__file__).parents[2]

THERE = (
    *(
        "numpy",
        "scipy",
        "scikit-image",
        "scikit-learn",
        "pillow",
        "tifffile",
        "safetensors",
        "einops",
        "filelock",
        "jinja2",
    ),
    *(
        "matplotlib",
        "pyyaml",
        "tensorboard",
        "pytest",
        "hypothesis",
        "torch",
        "pip",
        "lightning-utilities",
    ),
)
"""What the GPU machine has of what cDAL and the steps import; what these need is there too."""

LACKING = (
    *(
        "monai",
        "nibabel",
        "pydicom",
        "highdicom",
        "simpleitk",
        "imagecodecs",
        "jsonargparse",
        "pooch",
        "rich",
    ),
    "lightning-fabric",
)


def with_needed(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """The installed packages of these names and of all that they need."""
    found: dict[str, importlib.metadata.Distribution] = {}
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other platforms
        asked = map(Requirement, found[name].requires or [])
        left += [
            one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
    return found


def bare_python(folder: Path) -> Path:
    """An interpreter that finds those packages and nothing else, each a link to what is installed
    here.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in with_needed(THERE).values():
        for file in package.files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree, as it arrives at the other machine, with what was packed."""
    real("hippocampus")  # is packed
    target = tmp_path_factory.mktemp("gpu") / "cdal"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def run(*words: object, cwd: Path) -> str:
    """What a command prints; it must end well."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, env=clean
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_plan_runs_from_packing_to_the_page(checkout: Path, tmp_path: Path):
    plan = checkout / "benchmarks" / "gpu"
    printed = run(
        sys.executable, plan / "pack.py", "--data", SHARED.resolve(), "--tiny", cwd=checkout
    )
    sizes = [float(size) for size in re.findall(r": ([\d.]+) MiB with the tree", printed)]
    assert len(sizes) == 11
    assert max(sizes) <= 64

    python = bare_python(tmp_path / "bare")
    installed = {found.name.lower() for found in with_needed(THERE).values()}
    assert not installed & set(LACKING)
    out = tmp_path / "out"
    run(python, plan / "run.py", "all", "--out", out, "--device", "cpu", "--tiny", cwd=checkout)
    records = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert len(records) == 11
    assert {record["state"] for record in records.values()} == {"done"}
    for step in ("paper-monuseg", "paper-cxr", "paper-hippocampus"):
        trained = records[step]["parts"]["the paper's network"]
        assert trained["training"]["steps"] == 2
        assert [row["step"] for row in trained["curve"] if "test" in row] == [1, 2]
        assert trained["best on the test cases"]["test"] == max(
            row["test"] for row in trained["curve"] if "test" in row
        )
        assert {row["case"] for row in trained["cases"]}
    assert set(records["systems-cxr"]["parts"]) == {"cdal", "cdal-unet"}
    assert all((out / f"{step}.log").read_text() for step in records)

    run(sys.executable, plan / "results.py", out, "--into", tmp_path / "results", cwd=checkout)
    page = (tmp_path / "results.md").read_text()
    for step, record in records.items():
        assert f"| {step} | " in page
        dice = [
            part["summary"]["mean"]["dice"]
            for part in record["parts"].values()
            if "summary" in part
        ]
        assert all(f"{value:.4f}" in page for value in dice)
    assert "not run" not in page
