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
from cdal.datasets.partition import split_cases
from cdal.datasets.public import prepare
from cdal.recipes import find_recipe
from helpers.arrays import noise
from helpers.data import SHARED

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


def test_the_real_set_is_complete_and_passes_the_check(tmp_path: Path):
    if not (SHARED / "monuseg").is_dir():
        pytest.skip(f"MoNuSeg is not in {SHARED} (set CDAL_TEST_DATA)")
    prepared = prepare("monuseg", SHARED / "monuseg", tmp_path / "out")
    assert (prepared.cases, prepared.left_out) == (44, {})
    assert not any("not those of the challenge" in note for note in prepared.notes)
    checked = check_folder(tmp_path / "out")
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    parts = split_cases(checked.folder, find_recipe("monuseg").data)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [24, 6, 14]
