"""Chest X-rays: from the owners' folders to a data folder, and the folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.partition import split_cases
from cdal.datasets.public import cxr, prepare
from cdal.recipes.recipe import DataSettings
from helpers.arrays import noise
from helpers.data import part_of, real
from helpers.files import picture


def test_the_owners_folders_become_one(tmp_path: Path):
    """Montgomery with a mask for each lung, Shenzhen with `_mask` in the name, one picture without
    a mask.
    """
    left, right = np.zeros((40, 30), np.uint8), np.zeros((40, 30), np.uint8)
    left[5:20, 3:10], right[5:20, 15:25] = 255, 255
    picture(tmp_path / "in/MontgomerySet/CXR_png/MCUCXR_0001_0.png", noise(40, 30))
    picture(tmp_path / "in/MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png", left)
    picture(tmp_path / "in/MontgomerySet/ManualMask/rightMask/MCUCXR_0001_0.png", right)
    picture(tmp_path / "in/ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png", noise(40, 30, 3))
    picture(tmp_path / "in/ChinaSet_AllFiles/CXR_png/CHNCXR_0002_1.png", noise(40, 30))
    picture(tmp_path / "in/mask/CHNCXR_0001_0_mask.png", left)
    prepared = prepare("cxr", tmp_path / "in", tmp_path / "out")
    assert prepared.cases == 2
    assert list(prepared.left_out.values()) == ["it has no mask"]
    np.testing.assert_array_equal(
        np.asarray(Pillow.open(tmp_path / "out/labels/MCUCXR_0001_0.png")), (left | right) > 0
    )
    folder = open_folder(tmp_path / "out")
    assert folder.about["CHNCXR_0001_0"]["stratum"] == "shenzhen normal"


def names_of_the_whole_set() -> list[str]:
    """704 names, with 96 numbers of Shenzhen left out; the second half of each hospital has
    tuberculosis.
    """
    montgomery = [f"MCUCXR_{i:04d}_{int(i >= 80)}" for i in range(1, 139)]
    numbers = np.setdiff1d(
        np.arange(1, 663), np.random.default_rng(0).permutation(np.arange(1, 663))[:96]
    )
    return sorted([*montgomery, *[f"CHNCXR_{i:04d}_{int(i > 326)}" for i in numbers]])


def test_the_papers_folds_are_not_a_partition_and_the_honest_ones_are():
    names = names_of_the_whole_set()
    folds = cxr.partitions(names)
    paper = folds["cxr-paper-folds"]
    assert len(names) == 704
    assert [len(fold["test"]) for fold in paper] == [138, 138, 138]
    assert len(paper[0]["train"]) == 566
    shenzhen = [name for name in names if name.startswith("C")]
    assert paper[1]["test"] == shenzhen[:138]
    assert paper[2]["test"] == shenzhen[-138:]
    honest = [fold["test"] for fold in folds["cxr-five-fold"]]
    assert sorted(name for fold in honest for name in fold) == names
    for stratum in ("MCUCXR_.*_0", "MCUCXR_.*_1", "CHNCXR_.*_0", "CHNCXR_.*_1"):
        hospital, finding = stratum.split("_.*")
        counts = [
            sum(name.startswith(hospital) and name.endswith(finding) for name in fold)
            for fold in honest
        ]
        assert max(counts) - min(counts) <= 1


def test_of_an_incomplete_set_first_and_last_are_those_of_the_complete_one():
    names = names_of_the_whole_set()
    some = [name for name in names if "_0" in name[6:9] or "_06" in name]
    whole, part = cxr.partitions(names)["cxr-paper-folds"], cxr.partitions(some)["cxr-paper-folds"]
    assert part[1]["test"]
    assert part[2]["test"]
    for fold in (1, 2):
        assert set(part[fold]["test"]) <= set(whole[fold]["test"])


def test_a_part_of_the_real_chest_x_rays_passes_the_check(tmp_path: Path):
    """Every eighth picture; the folds of all 256 follow from their names."""
    source = real("cxr")
    names = sorted(path.stem for path in (source / "images").iterdir())
    fold = cxr.partitions(names)["cxr-paper-folds"][0]
    assert (len(names), len(fold["test"]), len(fold["train"])) == (256, 138, 118)
    some = part_of(source, tmp_path / "in", names[::8])
    prepared = prepare("cxr", some, tmp_path / "out")
    assert (prepared.cases, prepared.left_out) == (32, {})
    findings = check_folder(tmp_path / "out").findings
    assert [finding for finding in findings if finding.level != "note"] == []


@pytest.mark.slow
def test_the_real_chest_x_rays_pass_the_check(tmp_path: Path):
    assert prepare("cxr", real("cxr"), tmp_path / "out").cases == 256
    checked = check_folder(tmp_path / "out")
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    parts = split_cases(
        checked.folder,
        DataSettings(spatial_dims=2, size=(64, 64), partition="cxr-paper-folds", folds=5),
    )
    assert [len(parts.test), len(parts.train) + len(parts.validation)] == [138, 118]
