"""The public sets: from the owners' files, in the layouts in which people have them, to data folders."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import shutil
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets import public
from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.partition import split_cases
from cdal.datasets.public import PUBLIC_SETS, cxr, prepare
from cdal.imaging.annotations.aperio import rasterise, read_outlines
from cdal.recipes import find_recipe
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from helpers.data import SHARED
from helpers.files import save_nifti

TRAIN, TEST = "TCGA-18-5592-01Z-00-DX1", "TCGA-2Z-A9J9-01A-01-TS1"


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(256, size=shape).astype(np.uint8)


# MoNuSeg


def xml(*outlines: list[tuple[float, float]]) -> str:
    regions = "".join(
        "<Region><Vertices>" + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in outline) + "</Vertices></Region>"
        for outline in outlines
    )
    return f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"


def test_a_nucleus_is_its_filled_outline_outline_pixels_included():
    square = np.array([[2, 3], [6, 3], [6, 5], [2, 5]])  # x, y
    expected = np.zeros((10, 10), int)
    expected[3:6, 2:7] = 1
    np.testing.assert_array_equal(rasterise([square], (10, 10)), expected)
    np.testing.assert_array_equal(rasterise([square + 0.9], (10, 10)), expected)
    two = rasterise([square, square + 2], (10, 10))
    assert (two == 2).sum() == 15  # the later one lies on top
    assert rasterise([np.array([[-5, -5], [3, -5], [3, 3], [-5, 3]])], (10, 10)).sum() == 16  # cut at the border


def test_the_challenges_layout_becomes_a_folder(tmp_path: Path):
    source = tmp_path / "in"
    for folder, name in (("MoNuSeg 2018 Training Data/Tissue Images", TRAIN), ("MoNuSegTestData", TEST)):
        (source / folder).mkdir(parents=True)
        tifffile.imwrite(source / folder / f"{name}.tif", noise(50, 50, 3), photometric="rgb")
    (source / "MoNuSeg 2018 Training Data/Annotations").mkdir()
    outline = [(5, 5), (20, 5), (20, 20), (5, 20)]
    (source / "MoNuSeg 2018 Training Data/Annotations" / f"{TRAIN}.xml").write_text(xml(outline))
    (source / "MoNuSegTestData" / f"{TEST}.xml.gz").write_bytes(gzip.compress(xml(outline, [(1, 1), (3, 1), (3, 3)]).encode()))
    tifffile.imwrite(source / "MoNuSegTestData/TCGA-XX-0000.tif", noise(50, 50, 3), photometric="rgb")
    prepared = prepare("monuseg", source, tmp_path / "out")
    assert (prepared.cases, prepared.complete) == (2, 44)
    assert list(prepared.left_out.values()) == ["none of the 44 images of the challenge"]
    assert any("not those of the challenge" in note for note in prepared.notes)  # these are noise
    folder = open_folder(tmp_path / "out")
    assert folder.classes == ("background", "nucleus")
    assert {name: row["split"] for name, row in folder.about.items()} == {TRAIN: "train", TEST: "test"}
    mask = np.asarray(Pillow.open(tmp_path / "out/labels" / f"{TRAIN}.png"))
    assert mask.sum() == 16 * 16
    assert tifffile.imread(tmp_path / "out/instances" / f"{TEST}.tif").max() == 2


@pytest.mark.parametrize(("content", "said"), [("<Annotations>", "cannot be read"), ("<Annotations/>", "it holds none")])
def test_annotations_that_cannot_be_read_are_named(content: str, said: str, tmp_path: Path):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(UserError, match=said):
        read_outlines(tmp_path / "a.xml")


def test_real_masks_are_the_rasterised_outlines():
    """27 annotations: the masks that were made of them elsewhere differ by at most ten pixels of a million."""
    annotations = sorted((SHARED / "monuseg").glob("*/annotations/*.xml.gz"))
    if not annotations:
        pytest.skip(f"MoNuSeg is not in {SHARED} (set CDAL_TEST_DATA)")
    for path in annotations:
        given = np.asarray(Pillow.open(path.parents[1] / "masks" / f"{path.name[:-7]}.png")) > 0
        ours = rasterise(read_outlines(path), given.shape) > 0
        assert (given != ours).sum() <= 10


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


# Chest X-rays


def test_the_owners_folders_become_one(tmp_path: Path):
    """Montgomery with a mask for each lung, Shenzhen with `_mask` in the name, one picture without a mask."""
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
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "out/labels/MCUCXR_0001_0.png")), (left | right) > 0)
    folder = open_folder(tmp_path / "out")
    assert folder.about["CHNCXR_0001_0"]["stratum"] == "shenzhen normal"


def names_of_the_whole_set() -> list[str]:
    """704 names, with 96 numbers of Shenzhen left out; the second half of each hospital has tuberculosis."""
    montgomery = [f"MCUCXR_{i:04d}_{int(i >= 80)}" for i in range(1, 139)]
    numbers = np.setdiff1d(np.arange(1, 663), np.random.default_rng(0).permutation(np.arange(1, 663))[:96])
    return sorted([*montgomery, *[f"CHNCXR_{i:04d}_{int(i > 326)}" for i in numbers]])


def test_the_papers_folds_are_no_partition_and_the_honest_ones_are():
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
        counts = [sum(name.startswith(hospital) and name.endswith(finding) for name in fold) for fold in honest]
        assert max(counts) - min(counts) <= 1


def test_of_an_incomplete_set_first_and_last_are_those_of_the_complete_one():
    names = names_of_the_whole_set()
    some = [name for name in names if "_0" in name[6:9] or "_06" in name]
    whole, part = cxr.partitions(names)["cxr-paper-folds"], cxr.partitions(some)["cxr-paper-folds"]
    assert part[1]["test"]
    assert part[2]["test"]
    for fold in (1, 2):
        assert set(part[fold]["test"]) <= set(whole[fold]["test"])


def test_the_real_chest_x_rays_pass_the_check(tmp_path: Path):
    if not (SHARED / "cxr").is_dir():
        pytest.skip(f"the chest X-rays are not in {SHARED} (set CDAL_TEST_DATA)")
    assert prepare("cxr", SHARED / "cxr", tmp_path / "out").cases == 256
    checked = check_folder(tmp_path / "out")
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    parts = split_cases(checked.folder, DataSettings(spatial_dims=2, size=(64, 64), partition="cxr-paper-folds", folds=5))
    assert [len(parts.test), len(parts.train) + len(parts.validation)] == [138, 118]


# Hippocampus


def decathlon(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(1, 8):
        label = np.zeros((30, 32, 34), np.uint8)
        label[5:10, 5:10, 5:10], label[15:20, 15:20, 15:20] = 1, 2
        save_nifti(root / f"imagesTr/hippocampus_{i:03d}.nii.gz", rng.normal(size=label.shape).astype(np.float32))
        save_nifti(root / f"labelsTr/hippocampus_{i:03d}.nii.gz", label)
    return root


def test_volumes_that_do_not_belong_are_set_aside(tmp_path: Path):
    root = decathlon(tmp_path / "Task04_Hippocampus")
    (root / "imagesTr/._hippocampus_001.nii.gz").write_bytes(b"what macOS leaves")
    (root / "labelsTr/hippocampus_002.nii.gz").unlink()
    save_nifti(root / "labelsTr/hippocampus_003.nii.gz", np.zeros((30, 32, 35), np.uint8))
    save_nifti(root / "labelsTr/hippocampus_004.nii.gz", np.full((30, 32, 34), 3, np.uint8))
    save_nifti(root / "labelsTr/hippocampus_005.nii.gz", np.zeros((30, 32, 34), np.uint8))
    (root / "imagesTr/hippocampus_006.nii.gz").write_bytes(b"x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(root, arcname=root.name)
    prepared = prepare("hippocampus", tmp_path / "a.tar.gz", tmp_path / "out")
    assert prepared.cases == 2
    reasons = {Path(path).name[12:15]: reason for path, reason in prepared.left_out.items()}
    assert reasons["002"] == "it has no label"
    assert "its shape is" in reasons["003"]
    assert "expected 0, 1, 2" in reasons["004"]
    assert "no such anatomy" in reasons["005"]
    assert "cannot be read" in reasons["006"]
    assert not check_folder(tmp_path / "out").errors


def test_the_real_volumes_are_known(hippocampus: Path, tmp_path: Path):
    prepared = prepare("hippocampus", hippocampus, tmp_path / "out")
    assert (prepared.cases, prepared.left_out, prepared.notes) == (260, {}, [])
    assert not check_folder(tmp_path / "out").errors


def test_a_download_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(decathlon(tmp_path / "Task04_Hippocampus"), arcname="Task04_Hippocampus")
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        import pooch

        address = f"http://127.0.0.1:{server.server_port}/archive.tar"
        right = "md5:" + pooch.file_hash(str(tmp_path / "archive.tar"), alg="md5")
        for checksum, works in ((right, True), ("md5:" + "0" * 32, False)):
            changed = replace(PUBLIC_SETS["hippocampus"], address=address, checksum=checksum)
            monkeypatch.setitem(public.PUBLIC_SETS, "hippocampus", changed)
            if works:
                assert prepare("hippocampus", "download", tmp_path / "out").cases == 7
            else:
                with pytest.raises(UserError, match="cannot be downloaded"):
                    prepare("hippocampus", "download", tmp_path / "other")
                assert not (tmp_path / "other").exists()
    finally:
        server.shutdown()
    with pytest.raises(UserError, match="no address"):
        prepare("cxr", "download", tmp_path / "other")


# All of them


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_a_source_without_the_files_is_refused_and_leaves_nothing(name: str, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.txt").write_text("x")
    for source, said in ((tmp_path / "in", "it holds readme.txt"), (tmp_path / "no", "no such folder or archive")):
        with pytest.raises(UserError, match=said):
            prepare(name, source, tmp_path / "out")
    (tmp_path / "in.zip").write_text("no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        prepare(name, tmp_path / "in.zip", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "in.zip"]


def test_what_is_there_is_kept(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty; nothing was changed"):
        prepare("cxr", tmp_path, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")


def test_the_list_says_where_and_under_which_licence(capsys: pytest.CaptureFixture[str]):
    assert main(["data", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"hippocampus", "monuseg", "cxr"}
    for entry in told.values():
        assert all(entry[field] for field in ("where", "licence", "citation"))
    assert "non-commercial" in told["monuseg"]["licence"]
    assert main(["data", "prepare", "monusag", "x", "y"]) == 2
    assert "Did you mean monuseg?" in capsys.readouterr().err
