"""What `cdal check` finds, the layouts of data folders, partitions, and the recipe derived from a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from cdal.cli import main
from cdal.data.cases import load_cases
from cdal.data.check import check_folder
from cdal.data.folder import CaseFiles, DataFolder, open_folder
from cdal.data.partition import split_cases
from cdal.data.reading import read_case
from cdal.errors import UserError
from cdal.recipe import DataSettings
from cdal.recipes.folder import folder_recipe
from cdal.training import train
from files import save_nifti


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)
    return path


def disc(size: int = 64, radius: float = 20, value: int = 1) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    return (((y - size / 2) ** 2 + (x - size / 2) ** 2 < radius**2) * value).astype(np.uint8)


def make(root: Path, count: int = 6, size: int = 64, value: int = 1, radius: float = 20) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        noise = rng.integers(0, 60, size=(size, size))
        picture(root / "images" / f"c{i}.png", (noise + 120 * disc(size, radius + i)).astype(np.uint8))
        picture(root / "masks" / f"c{i}.png", disc(size, radius + i, value))
    return root


def kinds(root: Path, level: str) -> dict[str, str]:
    """Kind and message of the findings of a level."""
    found: dict[str, str] = {}
    for finding in check_folder(root).findings:
        if finding.level == level:
            found[finding.kind] = found.get(finding.kind, "") + finding.message + "\n"
    return found


def change(root: Path, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    path = root / name
    picture(path, function(np.asarray(Pillow.open(path))))


def test_a_good_folder_has_no_findings(tmp_path: Path):
    checked = check_folder(make(tmp_path))
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    assert checked.folder.classes == ("background", "foreground")
    assert len(checked.facts) == 6


def break_truncated(root: Path) -> None:
    path = root / "images" / "c2.png"
    path.write_bytes(path.read_bytes()[:100])


def numbered_masks(root: Path) -> None:
    """Objects with numbers of their own: few in each image, many in all."""
    for i in range(6):
        numbers = disc().astype(np.uint16) * (1 + np.arange(64)[:, None] // 2 + 32 * i)
        picture(root / "masks" / f"c{i}.png", numbers.astype(np.uint16))


def jpeg_mask(root: Path) -> None:
    mask = Pillow.open(root / "masks/c2.png")
    (root / "masks/c2.png").unlink()
    Pillow.fromarray(np.asarray(mask) * 255).save(root / "masks/c2.jpg", quality=60)


ERRORS = {
    "missing mask": (lambda r: (r / "masks/c2.png").unlink(), "missing", "image without a label: c2"),
    "missing image": (lambda r: (r / "images/c2.png").unlink(), "missing", "label without an image: c2"),
    "unreadable": (break_truncated, "unreadable", "c2.png"),
    "another shape": (lambda r: change(r, "masks/c2.png", lambda m: m[:-4]), "shape", "c2.png"),
    "constant": (lambda r: change(r, "images/c2.png", lambda m: m * 0 + 7), "constant", "every voxel is 7"),
    "interpolated": (
        lambda r: change(r, "masks/c2.png", lambda m: np.arange(m.size).reshape(m.shape).astype(np.uint8)),
        "values",
        "c2",
    ),
    "jpeg mask": (lambda r: jpeg_mask(r), "values", "JPEG changed"),
    "many values": (lambda r: numbered_masks(r), "values", "expected a label image with a value for each class"),
    "no case of this name": (lambda r: (r / "cases.csv").write_text("case,patient\nc0.png,a\n"), "table", "no case has this name"),
    "two codings": (
        lambda r: change(r, "masks/c2.png", lambda m: m * 255),
        "values",
        "1 masks hold 0 and 255 (c2), others 0 and 1",
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_faults_are_found_and_stop_a_training(fault: str, tmp_path: Path):
    break_it, kind, said = ERRORS[fault]
    break_it(make(tmp_path / "data"))
    found = kinds(tmp_path / "data", "error")
    assert kind in found
    assert said in found[kind]
    with pytest.raises(UserError, match="cdal check"):
        train(replace(folder_recipe(check_folder(make(tmp_path / "good"))).recipe), tmp_path / "data", tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
    assert main(["check", str(tmp_path / "data")]) == 2


WARNINGS = {
    "empty mask": (lambda r: change(r, "masks/c2.png", lambda m: m * 0), "empty", "c2.png: the mask is empty"),
    "inverted mask": (lambda r: change(r, "masks/c2.png", lambda m: np.ones_like(m)), "values", "inverted"),
    "twice": (
        lambda r: (r / "images/c3.png").write_bytes((r / "images/c2.png").read_bytes()),
        "duplicate",
        "c2, c3: the same image",
    ),
    "colour": (
        lambda r: change(r, "images/c2.png", lambda m: np.stack([m, 255 - m, m], axis=-1)),
        "channels",
        "5 of 1 channel(s), 1 of 3 channel(s)",
    ),
    "depths": (lambda r: change(r, "images/c2.png", lambda m: m.astype(np.uint16) * 200), "type", "5 uint8, 1 uint16"),
    "numbered objects": (
        lambda r: [
            change(r, f"masks/c{i}.png", lambda m, i=i: m * (1 + np.arange(64)[:, None] // 20 + 4 * i).astype(np.uint8))
            for i in range(6)
        ],
        "values",
        "numbered objects",
    ),
    "strange file": (lambda r: (r / "images/notes.pdf").write_text("x"), "ignored", "notes.pdf"),
}


@pytest.mark.parametrize("fault", WARNINGS)
def test_oddities_are_told(fault: str, tmp_path: Path):
    break_it, kind, said = WARNINGS[fault]
    break_it(make(tmp_path))
    found = kinds(tmp_path, "warning")
    assert kind in found
    assert said in found[kind]
    assert not check_folder(tmp_path).errors


def test_volumes_out_of_place_are_found(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(6):
        save_nifti(tmp_path / "images" / f"v{i}.nii.gz", rng.normal(size=(8, 9, 10)).astype(np.float32))
        save_nifti(tmp_path / "labels" / f"v{i}.nii.gz", rng.integers(2, size=(8, 9, 10)).astype(np.uint8))
    assert not check_folder(tmp_path).errors
    save_nifti(tmp_path / "labels" / "v0.nii.gz", rng.integers(2, size=(8, 9, 10)).astype(np.uint8), np.diag([1, 1, 2.0, 1]))
    save_nifti(tmp_path / "images" / "v1.nii.gz", np.full((8, 9, 10), np.nan, np.float32))
    wide = np.diag([9.0, 9.0, 9.0, 1])
    save_nifti(tmp_path / "images" / "v2.nii.gz", rng.normal(size=(8, 9, 10)).astype(np.float32), wide)
    save_nifti(tmp_path / "labels" / "v2.nii.gz", rng.integers(2, size=(8, 9, 10)).astype(np.uint8), wide)
    errors = kinds(tmp_path, "error")
    assert "affine" in errors["affine"]
    assert "720 voxels are NaN" in errors["not-finite"]
    assert "9 x 9 x 9 mm" in kinds(tmp_path, "warning")["spacing"]


def test_the_same_image_in_training_and_test_is_an_error(tmp_path: Path):
    make(tmp_path)
    (tmp_path / "images/c3.png").write_bytes((tmp_path / "images/c2.png").read_bytes())
    (tmp_path / "splits.json").write_text(json.dumps({"mine": [{"test": ["c0", "c3"]}]}))
    assert "fold 0 of mine" in kinds(tmp_path, "error")["partition"]
    (tmp_path / "splits.json").unlink()
    rows = "".join(f"c{i},{'test' if i < 3 else 'train'}\n" for i in range(6))
    (tmp_path / "cases.csv").write_text("case,split\n" + rows)
    assert "column `split`" in kinds(tmp_path, "error")["partition"]


def test_undeclared_values_get_a_proposal(tmp_path: Path):
    make(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": 1}}')
    change(tmp_path, "masks/c2.png", lambda m: m * 3)
    message = kinds(tmp_path, "error")["values"]
    assert '"class 3": 3' in message
    with pytest.raises(UserError, match=r"it holds 3"):
        load_cases(open_folder(tmp_path).cases, open_folder(tmp_path), DataSettings(spatial_dims=2, size=(64, 64)))


@pytest.mark.parametrize("broken", ["dataset.json", "splits.json", "cases.csv"])
def test_broken_tables_are_refused(broken: str, tmp_path: Path):
    (make(tmp_path) / broken).write_text("{" if broken.endswith("json") else "name,patient\na,b\n")
    with pytest.raises(UserError, match=broken):
        check_folder(tmp_path)


def test_the_command_prints_a_table_or_json_and_draws_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    change(make(tmp_path / "data"), "masks/c2.png", lambda m: m * 0)
    assert main(["check", str(tmp_path / "data"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "0 errors, 1 warnings" in capsys.readouterr().out
    sheet = np.asarray(Pillow.open(tmp_path / "sheet.png"))
    assert (sheet == (230, 159, 0)).all(axis=-1).sum() > 5 * 100  # the outlines of five discs, in the colour of class 1
    assert main(["check", str(tmp_path / "data"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["cases"], told["errors"], told["classes"]) == (6, 0, {"background": 0, "foreground": 1})
    assert {"level", "kind", "case", "message"} == set(told["findings"][0])


# Layouts


def classes_of(root: Path, case: int = 0) -> np.ndarray:
    folder = open_folder(root)
    return read_case(folder.cases[case], folder)[1][0].array[0]


@pytest.mark.parametrize("value", [1, 255, 7])
def test_whatever_is_not_background_is_the_foreground(value: int, tmp_path: Path):
    assert open_folder(make(tmp_path, value=value)).values == (0, value)
    np.testing.assert_array_equal(classes_of(tmp_path), disc())


def test_masks_by_class_in_jpeg_are_judged_one_by_one(tmp_path: Path):
    make(tmp_path)
    for i in range(6):
        mask = Pillow.open(tmp_path / "masks" / f"c{i}.png")
        for name in ("a", "b"):
            Pillow.fromarray(np.asarray(mask) * 255).save(
                tmp_path / "masks" / f"c{i}_{name}.{'jpg' if (i, name) == (2, 'b') else 'png'}"
            )
        (tmp_path / "masks" / f"c{i}.png").unlink()
    errors = [finding for finding in check_folder(tmp_path).findings if finding.level == "error"]
    assert [finding.case for finding in errors] == ["c2"]
    assert "c2_b.jpg: JPEG changed" in errors[0].message


def test_masks_of_classes_have_to_be_whole_and_well_named(tmp_path: Path):
    make(tmp_path)
    for i in range(6):
        (tmp_path / "masks" / f"c{i}.png").rename(tmp_path / "masks" / f"c{i}_liver.png")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "Liver": 1}}')
    assert "expected a mask for each of Liver" in kinds(tmp_path, "error")["values"]
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "masks/c0_liver.png").rename(tmp_path / "masks/c0.png")
    assert "c0 has a label image" in kinds(tmp_path, "error")["values"]


def test_gaps_in_the_values_are_closed(tmp_path: Path):
    make(tmp_path)
    change(tmp_path, "masks/c0.png", lambda m: m * 2)
    change(tmp_path, "masks/c1.png", lambda m: m * 3)
    for i in range(2, 6):
        change(tmp_path, f"masks/c{i}.png", lambda m: m * 2)
    folder = open_folder(tmp_path)
    assert (folder.values, folder.classes) == ((0, 2, 3), ("background", "class 2", "class 3"))
    assert set(np.unique(classes_of(tmp_path, 1))) == {0, 2}


def test_colours_are_classes(tmp_path: Path):
    make(tmp_path)
    for i in range(6):
        change(tmp_path, f"masks/c{i}.png", lambda m: np.stack([m * 255, m * 0, m * 0], axis=-1))
    folder = open_folder(tmp_path)
    assert folder.classes == ("background", "foreground")
    np.testing.assert_array_equal(classes_of(tmp_path), disc())


@pytest.mark.parametrize("layout", ["suffix", "folder"])
def test_one_file_for_each_class(layout: str, tmp_path: Path):
    make(tmp_path)
    for i in range(6):
        mask = np.asarray(Pillow.open(tmp_path / "masks" / f"c{i}.png"))
        (tmp_path / "masks" / f"c{i}.png").unlink()
        for name, half in (("left", mask.copy()), ("right", mask.copy())):
            half[:, 32:] *= name == "right"
            half[:, :32] *= name == "left"
            picture(tmp_path / "masks" / (f"c{i}_{name}.png" if layout == "suffix" else f"{name}/c{i}.png"), half * 255)
    checked = check_folder(tmp_path)
    assert not checked.errors
    assert checked.folder.classes == ("background", "left", "right")
    found = classes_of(tmp_path)
    assert set(np.unique(found[:, :32])) == {0, 1}
    assert set(np.unique(found[:, 32:])) == {0, 2}


def test_masks_may_say_that_they_are_masks(tmp_path: Path):
    make(tmp_path)
    for path in list((tmp_path / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    np.testing.assert_array_equal(classes_of(tmp_path), disc())


def test_channels_in_files_of_their_own(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(3):
        for channel in range(2):
            save_nifti(tmp_path / "imagesTr" / f"b_{i}_{channel:04d}.nii.gz", rng.normal(size=(8, 9, 10)).astype(np.float32))
        save_nifti(tmp_path / "labelsTr" / f"b_{i}.nii.gz", rng.integers(2, size=(8, 9, 10)).astype(np.uint8))
    folder = open_folder(tmp_path)
    assert [case.name for case in folder.cases] == ["b_0", "b_1", "b_2"]
    assert read_case(folder.cases[0], folder)[0].array.shape == (2, 8, 9, 10)
    (tmp_path / "imagesTr" / "b_1_0001.nii.gz").unlink()
    assert "channels" in kinds(tmp_path, "error")


def test_labels_of_several_kinds_are_refused(tmp_path: Path):
    make(tmp_path)
    picture(tmp_path / "masks" / "c0_rater0.png", disc())
    assert "labels of several kinds" in kinds(tmp_path, "error")["missing"]


# Partitions


@given(
    patients=st.lists(st.integers(0, 12), min_size=20, max_size=60),
    strata=st.integers(1, 4),
    folds=st.integers(3, 5),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_no_patient_is_in_two_parts(patients: list[int], strata: int, folds: int, seed: int):
    if len(set(patients)) < folds:
        patients = [*patients, *range(20, 20 + folds)]
    rng = np.random.default_rng(seed)
    about = {f"{i:03d}": {"patient": f"p{p}", "stratum": str(rng.integers(strata))} for i, p in enumerate(patients)}
    folder = DataFolder(Path(), tuple(CaseFiles(name, (Path(),), ()) for name in about), ("a", "b"), (0, 1), about=about)
    tested: list[str] = []
    for fold in range(folds):
        names = split_cases(folder, DataSettings(partition="stratified", folds=folds, fold=fold)).names()
        people = [{about[name]["patient"] for name in part} for part in names.values()]
        assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
        tested += names["test"]
    assert sorted(tested) == sorted(about)


def test_strata_are_spread_evenly():
    about = {f"{i:03d}": {"stratum": "rare" if i < 10 else "common"} for i in range(50)}
    folder = DataFolder(Path(), tuple(CaseFiles(name, (Path(),), ()) for name in about), ("a", "b"), (0, 1), about=about)
    for fold in range(5):
        test = split_cases(folder, DataSettings(partition="stratified", folds=5, fold=fold)).names()["test"]
        assert sum(about[name]["stratum"] == "rare" for name in test) == 2


def test_patients_by_a_pattern(tmp_path: Path):
    names = [f"p{i // 3}_{i % 3}" for i in range(24)]
    folder = DataFolder(Path(), tuple(CaseFiles(name, (Path(),), ()) for name in names), ("a", "b"), (0, 1))
    settings_ = DataSettings(partition="stratified", folds=4, patient=r"^(p\d+)_")
    split = split_cases(folder, settings_).names()
    assert all(len({n for n in part if n.startswith(f"p{i}_")}) in (0, 3) for part in split.values() for i in range(8))
    with pytest.raises(UserError, match="finds nothing in the name p0_0"):
        split_cases(folder, replace(settings_, patient="^q"))
    with pytest.raises(UserError, match="regular expression"):
        split_cases(folder, replace(settings_, patient="("))


def test_the_same_image_twice_stays_in_one_part(tmp_path: Path):
    make(tmp_path, count=12)
    for i in range(0, 12, 2):
        (tmp_path / f"images/c{i + 1}.png").write_bytes((tmp_path / f"images/c{i}.png").read_bytes())
    folder = check_folder(tmp_path).folder
    for fold in range(3):
        for part in split_cases(folder, DataSettings(partition="stratified", folds=3, fold=fold)).names().values():
            assert all((f"c{i}" in part) == (f"c{i + 1}" in part) for i in range(0, 12, 2))


def test_a_list_knows_its_own_folds(tmp_path: Path):
    make(tmp_path, count=10)
    (tmp_path / "splits.json").write_text(json.dumps({"ten": [{"test": [f"c{i}"]} for i in range(10)]}))
    folder = check_folder(tmp_path).folder
    assert split_cases(folder, DataSettings(partition="ten", folds=4, fold=7)).names()["test"] == ["c7"]


def test_given_tests_are_kept(tmp_path: Path):
    make(tmp_path, count=10)
    (tmp_path / "cases.csv").write_text("case,split\n" + "".join(f"c{i},{'test' if i in (1, 7) else 'train'}\n" for i in range(10)))
    parts = split_cases(check_folder(tmp_path).folder, DataSettings(partition="given", folds=4)).names()
    assert parts["test"] == ["c1", "c7"]
    assert len(parts["validation"]) == 2
    (tmp_path / "cases.csv").write_text("case,split\nc1,tst\n")
    with pytest.raises(UserError, match="'tst'"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="given", folds=4))


def test_parts_that_share_cases_or_patients_are_refused(tmp_path: Path):
    make(tmp_path, count=8)
    (tmp_path / "splits.json").write_text(json.dumps({"mine": [{"test": ["c0"], "train": [f"c{i}" for i in range(8)]}]}))
    with pytest.raises(UserError, match="c0 would be in train and in test"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="mine"))
    (tmp_path / "splits.json").write_text(json.dumps({"mine": [{"test": ["c0"]}]}))
    rows = "".join(f"c{i},{'p' if i in (0, 4) else i}\n" for i in range(8))
    (tmp_path / "cases.csv").write_text("case,patient\n" + rows)
    with pytest.raises(UserError, match=r"of one patient or the same image.*stratified"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="mine"))


@pytest.mark.parametrize(
    "content", ['{"a": 5}', '{"a": [["c0"]]}', '{"a": [{"test": null}]}', '{"a": [{"test": ["c0"], "train": 5}]}']
)
def test_partitions_of_another_form_are_refused(content: str, tmp_path: Path):
    (make(tmp_path) / "splits.json").write_text(content)
    with pytest.raises(UserError, match=r"splits\.json: expected"):
        check_folder(tmp_path)


def test_images_that_are_the_same_are_of_one_patient_whatever_the_table_says(tmp_path: Path):
    make(tmp_path, count=9)
    (tmp_path / "images/c5.png").write_bytes((tmp_path / "images/c0.png").read_bytes())
    (tmp_path / "cases.csv").write_text("case,patient\n" + "".join(f"c{i},p{i}\n" for i in range(9)))
    for fold in range(3):
        parts = split_cases(check_folder(tmp_path).folder, DataSettings(partition="stratified", folds=3, fold=fold)).names()
        assert all(("c0" in part) == ("c5" in part) for part in parts.values())


def test_partitions_of_a_file(tmp_path: Path):
    make(tmp_path, count=8)
    (tmp_path / "splits.json").write_text(json.dumps({"mine": [{"test": ["c0"], "validation": ["c1"]}, {"test": ["c9"]}]}))
    folder = check_folder(tmp_path).folder
    parts = split_cases(folder, DataSettings(partition="mine")).names()
    assert parts == {"train": [f"c{i}" for i in range(2, 8)], "validation": ["c1"], "test": ["c0"]}
    for settings_, said in (
        (DataSettings(partition="mine", fold=1), "names cases that are not there: c9"),
        (DataSettings(partition="mine", fold=2), "the folds 0 to 1"),
        (DataSettings(partition="yours"), "expected the partition 'yours'; it holds mine"),
    ):
        with pytest.raises(UserError, match=said):
            split_cases(folder, settings_)


# The derived recipe


def test_large_objects_are_seen_whole(tmp_path: Path):
    derived = folder_recipe(check_folder(make(tmp_path, size=400, radius=100)))
    data = derived.recipe.data
    assert data.resize == data.size == (256, 256)
    assert data.channels == 1
    assert data.flips == ()
    assert derived.recipe.segmenter.sampling_timesteps == 2
    assert "whole picture" in derived.reasons["data.resize"]


def test_small_objects_are_seen_at_their_own_resolution(tmp_path: Path):
    derived = folder_recipe(check_folder(make(tmp_path, size=400, radius=8)))
    data = derived.recipe.data
    assert data.resize is None
    assert data.size == (256, 256)
    assert data.flips == (0, 1)
    assert data.foreground > 0
    assert derived.recipe.segmenter.sampling_timesteps == 4


def test_gray_saved_as_colours_is_gray_and_colours_are_colours(tmp_path: Path):
    make(tmp_path)
    for i in range(6):
        change(tmp_path, f"images/c{i}.png", lambda m: m[..., None].repeat(3, axis=-1))
    assert folder_recipe(check_folder(tmp_path)).recipe.data.channels == 1
    for i in range(6):
        change(tmp_path, f"images/c{i}.png", lambda m: np.stack([m[..., 0], 255 - m[..., 0], m[..., 0]], axis=-1))
    data = folder_recipe(check_folder(tmp_path)).recipe.data
    assert (data.channels, data.intensities) == (3, "range")


@pytest.mark.parametrize(
    ("shape", "spacing", "dims", "size"),
    [
        ((40, 50, 36), (1, 1, 1), 3, (40, 56, 40)),
        ((96, 96, 96), (1, 1, 1), 3, (48, 48, 56)),
        ((60, 64, 10), (0.8, 0.8, 6.0), 2, (64, 64)),
        ((60, 64, 10), (1, 1, 1), 2, (64, 64)),
    ],
)
def test_volumes_get_a_patch_that_fits(shape, spacing, dims: int, size, tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(5):
        save_nifti(tmp_path / "images" / f"v{i}.nii.gz", rng.normal(size=shape).astype(np.float32), np.diag([*spacing, 1.0]))
        save_nifti(tmp_path / "labels" / f"v{i}.nii.gz", rng.integers(3, size=shape).astype(np.uint8), np.diag([*spacing, 1.0]))
    data = folder_recipe(check_folder(tmp_path)).recipe.data
    assert data.spatial_dims == dims
    assert sorted(data.size) == sorted(size)
    assert data.spacing == spacing
    assert data.neighbours == (1 if dims == 2 else 0)


def test_patients_of_a_pattern_decide_the_number_of_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make(tmp_path, count=12)
    for i in range(12):
        for part in ("images", "masks"):
            (tmp_path / part / f"c{i}.png").rename(tmp_path / part / f"p{i % 4}_{i}.png")
    assert main(["train", "folder", "--data", str(tmp_path), "--dry-run", "--data.patient", "^[^_]+"]) == 0
    assert "folds: 4" in capsys.readouterr().out


def test_a_given_test_set_and_few_cases_are_respected(tmp_path: Path):
    make(tmp_path, count=4)
    assert folder_recipe(check_folder(tmp_path)).recipe.data.folds == 4
    (tmp_path / "cases.csv").write_text("case,split\nc0,test\nc1,train\nc2,train\nc3,train\n")
    assert folder_recipe(check_folder(tmp_path)).recipe.data.partition == "given"
    with pytest.raises(UserError, match="at least 3 cases"):
        folder_recipe(check_folder(make(tmp_path / "two", count=2)))


def test_a_folder_trains_with_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """16-bit TIFF images, masks of 0 and 255: check, derive, train some steps, evaluate, go on."""
    make(tmp_path / "data", count=6, value=255)
    for path in list((tmp_path / "data/images").iterdir()):
        tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Pillow.open(path)).astype(np.uint16) * 17)
        path.unlink()
    command = ["train", "folder", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*command, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "# data.size: (64, 64): all pictures are 64 x 64" in told
    assert main([*command, "--steps", "4", "--training.validate_every", "2"]) == 0
    capsys.readouterr()
    (kept,) = json.loads((tmp_path / "run/splits.json").read_text())["run"]
    assert sorted(name for part in kept.values() for name in part) == [f"c{i}" for i in range(6)]
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "data"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cases"] == len(kept["test"])
    assert told["protocol"]["partition"] == "stratified"


def test_however_the_pictures_are_stored_the_network_sees_the_same(tmp_path: Path):
    """Gray PNG with masks of 0 and 255; TIFF in colours, renamed, masks of 0 and 1 in BMP; NPY and `_mask.tif`: one recipe, one
    split, the same tensors. JPEG differs by what it loses.
    """
    make(tmp_path / "png", size=300, radius=90, value=255)
    for i in range(6):
        image = np.asarray(Pillow.open(tmp_path / f"png/images/c{i}.png"))
        mask = np.asarray(Pillow.open(tmp_path / f"png/masks/c{i}.png"))
        for folder in ("tiff", "npy", "jpeg"):
            (tmp_path / folder / "images").mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"tiff/images/scan {i}.tif", image[..., None].repeat(3, -1), photometric="rgb")
        picture(tmp_path / f"tiff/masks/scan {i}.bmp", mask // 255)
        np.save(tmp_path / f"npy/images/c{i}.npy", image)
        tifffile.imwrite(tmp_path / f"npy/masks/c{i}_mask.tif", mask // 85)
        Pillow.fromarray(image).save(tmp_path / f"jpeg/images/c{i}.jpg", quality=92)
        picture(tmp_path / f"jpeg/masks/c{i}.png", mask // 255)
    derived = {}
    for folder in ("png", "tiff", "npy", "jpeg"):
        checked = check_folder(tmp_path / folder)
        recipe = folder_recipe(checked).recipe
        split = split_cases(checked.folder, recipe.data)
        derived[folder] = recipe, split, load_cases(split.train, checked.folder, recipe.data)
    recipe, split, cases = derived["png"]
    for folder in ("tiff", "npy", "jpeg"):
        assert derived[folder][0] == recipe
        assert [case.name[-1] for case in derived[folder][1].test] == [case.name[-1] for case in split.test]
        for mine, theirs in zip(derived[folder][2], cases, strict=True):
            assert (mine.labels == theirs.labels).all()
            worst = (mine.image - theirs.image).abs().max()
            assert worst < (0.3 if folder == "jpeg" else 1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (20, 30), (64, 600)])
def test_pictures_of_odd_shapes_train(shape: tuple[int, int], tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(4):
        picture(tmp_path / "data/images" / f"c{i}.png", rng.integers(0, 255, size=shape).astype(np.uint8))
        picture(tmp_path / "data/masks" / f"c{i}.png", rng.integers(0, 2, size=shape).astype(np.uint8))
    checked = check_folder(tmp_path / "data")
    recipe = folder_recipe(checked).recipe
    recipe = replace(recipe, training=replace(recipe.training, steps=1, batch=1, precision="32"))
    assert train(recipe, checked, tmp_path / "run", "cpu").is_file()


def test_without_data_no_recipe_can_be_derived(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "folder", "--dry-run"]) == 2
    assert "give --data" in capsys.readouterr().err
