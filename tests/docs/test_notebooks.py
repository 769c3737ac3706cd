"""The notebooks run from the first cell to the last, with less to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from helpers.blocks import DOCS, ROOT

FOLDER = DOCS / "notebooks"
SMALLER = {
    "segment.ipynb": {},
    "train-and-review.ipynb": {
        "write_phantoms(data, 48": "write_phantoms(data, 10",
        "steps = 300": "steps = 2",
    },
    "compare.ipynb": {
        "write_phantoms(data, 48": "write_phantoms(data, 10",
        "[0, 1], 200": "[0, 1], 2",
    },
}
"""What a notebook says, and what is run."""


def run(name: str, folder: Path, smaller: Mapping[str, str]) -> str:
    """Run a notebook in a folder, and return what it printed."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for cell in notebook.cells:
        for told, done in smaller.items():
            cell.source = cell.source.replace(told, done)
    client = nbclient.NotebookClient(
        notebook, timeout=580, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    client.execute(env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "agg"})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_a_volume_is_segmented_and_shown(hippocampus: Path, tmp_path: Path):
    volume = sorted((hippocampus / "imagesTr").glob("*.nii.gz"))[0]
    shutil.copy(volume, tmp_path / "scan.nii.gz")
    printed = run("segment.ipynb", tmp_path, SMALLER["segment.ipynb"])
    assert "expected_dice" in printed
    assert "Dice between the two" in printed


@pytest.mark.slow
def test_a_folder_is_trained_on_and_its_results_are_reviewed(tmp_path: Path):
    run("train-and-review.ipynb", tmp_path, SMALLER["train-and-review.ipynb"])
    assert (tmp_path / "results" / "review.html").is_file()


@pytest.mark.slow
def test_two_systems_are_compared(tmp_path: Path):
    printed = run("compare.ipynb", tmp_path, SMALLER["compare.ipynb"])
    assert "cdal-deterministic minus cdal" in printed
    assert "Wilcoxon p" in printed


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.ipynb")))
def test_notebooks_are_kept_without_outputs_and_what_is_made_smaller_is_there(name: str):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert '"outputs": []' in text
    assert '"execution_count": 1' not in text
    assert [told for told in SMALLER[name] if told not in text] == []
