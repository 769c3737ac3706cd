"""MoNuSeg: from the challenge's files to a data folder."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.partition import split_cases
from cdal.datasets.public import prepare
from cdal.datasets.public.base import known_digests
from cdal.recipes import find_recipe
from helpers.arrays import noise
from helpers.data import part_of, real

TRAIN, TEST = "TCGA-18-5592-01Z-00-DX1", "TCGA-2Z-A9J9-01A-01-TS1"


def xml(*outlines: list[tuple[float, float]]) -> str:
    regions = "".join(
        "<Region><Vertices>"
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in outline)
        + "</Vertices></Region>"
        for outline in outlines
    )
    return f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"


def test_the_challenges_layout_becomes_a_folder(tmp_path: Path):
    source = tmp_path / "in"
    for folder, name in (
        ("MoNuSeg 2018 Training Data/Tissue Images", TRAIN),
        ("MoNuSegTestData", TEST),
    ):
        (source / folder).mkdir(parents=True)
        tifffile.imwrite(source / folder / f"{name}.tif", noise(50, 50, 3), photometric="rgb")
    (source / "MoNuSeg 2018 Training Data/Annotations").mkdir()
    outline = [(5, 5), (20, 5), (20, 20), (5, 20)]
    (source / "MoNuSeg 2018 Training Data/Annotations" / f"{TRAIN}.xml").write_text(xml(outline))
    (source / "MoNuSegTestData" / f"{TEST}.xml.gz").write_bytes(
        gzip.compress(xml(outline, [(1, 1), (3, 1), (3, 3)]).encode())
    )
    tifffile.imwrite(
        source / "MoNuSegTestData/TCGA-XX-0000.tif", noise(50, 50, 3), photometric="rgb"
    )
    prepared = prepare("monuseg", source, tmp_path / "out")
    assert (prepared.cases, prepared.complete) == (2, 44)
    assert list(prepared.left_out.values()) == ["none of the 44 images of the challenge"]
    assert any("not those of the challenge" in note for note in prepared.notes)  # these are noise
    folder = open_folder(tmp_path / "out")
    assert folder.classes == ("background", "nucleus")
    assert {name: row["split"] for name, row in folder.about.items()} == {
        TRAIN: "train",
        TEST: "test",
    }
    mask = np.asarray(Pillow.open(tmp_path / "out/labels" / f"{TRAIN}.png"))
    assert mask.sum() == 16 * 16
    assert tifffile.imread(tmp_path / "out/instances" / f"{TEST}.tif").max() == 2


def test_the_recipe_parts_the_complete_set():
    known = known_digests("monuseg")
    about = {name: {"patient": name[:12], "split": known[name]["split"]} for name in sorted(known)}
    cases = tuple(CaseFiles(name, (Path(),), ()) for name in about)
    folder = DataFolder(Path(), cases, ("background", "nucleus"), (0, 1), about=about)
    parts = split_cases(folder, find_recipe("monuseg").data)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [24, 6, 14]


def test_a_part_of_the_real_set_is_known_and_passes_the_check(tmp_path: Path):
    """Three images for training and two for the test; all names are those of the challenge."""
    source = real("monuseg")
    train, test = (
        sorted(path.stem for path in (source / split / "images").iterdir())
        for split in ("train", "test")
    )
    assert sorted(train + test) == sorted(known_digests("monuseg"))
    some = part_of(source, tmp_path / "in", [*train[::12], *test[::8]])
    prepared = prepare("monuseg", some, tmp_path / "out")
    assert (prepared.cases, prepared.left_out) == (5, {})
    assert list(prepared.notes[:2]) == ["3 of 30 train images", "2 of 14 test images"]
    assert not any("not those of the challenge" in note for note in prepared.notes)
    findings = check_folder(tmp_path / "out").findings
    assert [finding for finding in findings if finding.level != "note"] == []


@pytest.mark.slow
def test_the_real_set_is_complete_and_passes_the_check(tmp_path: Path):
    prepared = prepare("monuseg", real("monuseg"), tmp_path / "out")
    assert (prepared.cases, prepared.left_out) == (44, {})
    assert not any("not those of the challenge" in note for note in prepared.notes)
    checked = check_folder(tmp_path / "out")
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    parts = split_cases(checked.folder, find_recipe("monuseg").data)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [24, 6, 14]
