"""Which cases train, choose the weights and test: patients, strata, lists and folds."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.partition import fold_count, split_cases
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from helpers.data import SHARED
from helpers.files import disc_folder


@pytest.mark.parametrize("fold", [-1, 4, 99])
@pytest.mark.parametrize("partition", ["interleaved", "stratified"])
def test_a_fold_that_there_is_not_is_refused(fold: int, partition: str, tmp_path: Path):
    """The settings of a recipe are checked before; `cdal evaluate --fold` is not among them."""
    folder = open_folder(disc_folder(tmp_path, 8))
    recipe = DataSettings(2, (16, 16), partition=partition)
    with pytest.raises(UserError, match=f"the fold must be 0 to 3; it is {fold}"):
        split_cases(folder, replace(recipe, fold=fold))


@given(
    patients=st.lists(st.integers(0, 12), min_size=20, max_size=60),
    strata=st.integers(1, 4),
    folds=st.integers(3, 5),
    seed=st.integers(0, 9),
)
@settings(max_examples=40)
def test_no_patient_is_in_two_parts(patients: list[int], strata: int, folds: int, seed: int):
    if len(set(patients)) < folds:
        patients = [*patients, *range(20, 20 + folds)]
    rng = np.random.default_rng(seed)
    about = {
        f"{i:03d}": {"patient": f"p{p}", "stratum": str(rng.integers(strata))}
        for i, p in enumerate(patients)
    }
    folder = DataFolder(
        Path(),
        tuple(CaseFiles(name, (Path(),), ()) for name in about),
        ("a", "b"),
        (0, 1),
        about=about,
    )
    tested: list[str] = []
    for fold in range(folds):
        names = split_cases(
            folder, DataSettings(partition="stratified", folds=folds, fold=fold)
        ).names()
        people = [{about[name]["patient"] for name in part} for part in names.values()]
        assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
        tested += names["test"]
    assert sorted(tested) == sorted(about)


def test_strata_are_spread_evenly():
    about = {f"{i:03d}": {"stratum": "rare" if i < 10 else "common"} for i in range(50)}
    folder = DataFolder(
        Path(),
        tuple(CaseFiles(name, (Path(),), ()) for name in about),
        ("a", "b"),
        (0, 1),
        about=about,
    )
    for fold in range(5):
        test = split_cases(
            folder, DataSettings(partition="stratified", folds=5, fold=fold)
        ).names()["test"]
        assert sum(about[name]["stratum"] == "rare" for name in test) == 2


def test_patients_by_a_pattern(tmp_path: Path):
    names = [f"p{i // 3}_{i % 3}" for i in range(24)]
    folder = DataFolder(
        Path(), tuple(CaseFiles(name, (Path(),), ()) for name in names), ("a", "b"), (0, 1)
    )
    settings_ = DataSettings(partition="stratified", folds=4, patient=r"^(p\d+)_")
    split = split_cases(folder, settings_).names()
    assert all(
        len({n for n in part if n.startswith(f"p{i}_")}) in (0, 3)
        for part in split.values()
        for i in range(8)
    )
    with pytest.raises(UserError, match="finds nothing in the name p0_0"):
        split_cases(folder, replace(settings_, patient="^q"))
    with pytest.raises(UserError, match="regular expression"):
        split_cases(folder, replace(settings_, patient="("))


def test_the_same_image_twice_stays_in_one_part(tmp_path: Path):
    disc_folder(tmp_path, count=12)
    for i in range(0, 12, 2):
        (tmp_path / f"images/c{i + 1}.png").write_bytes(
            (tmp_path / f"images/c{i}.png").read_bytes()
        )
    folder = check_folder(tmp_path).folder
    for fold in range(3):
        for part in (
            split_cases(folder, DataSettings(partition="stratified", folds=3, fold=fold))
            .names()
            .values()
        ):
            assert all((f"c{i}" in part) == (f"c{i + 1}" in part) for i in range(0, 12, 2))


def test_a_list_knows_its_own_folds(tmp_path: Path):
    disc_folder(tmp_path, count=10)
    (tmp_path / "splits.json").write_text(
        json.dumps({"ten": [{"test": [f"c{i}"]} for i in range(10)]})
    )
    folder = check_folder(tmp_path).folder
    assert split_cases(folder, DataSettings(partition="ten", folds=4, fold=7)).names()["test"] == [
        "c7"
    ]


def test_given_tests_are_kept(tmp_path: Path):
    disc_folder(tmp_path, count=10)
    (tmp_path / "cases.csv").write_text(
        "case,split\n" + "".join(f"c{i},{'test' if i in (1, 7) else 'train'}\n" for i in range(10))
    )
    parts = split_cases(
        check_folder(tmp_path).folder, DataSettings(partition="given", folds=4)
    ).names()
    assert parts["test"] == ["c1", "c7"]
    assert len(parts["validation"]) == 2
    (tmp_path / "cases.csv").write_text("case,split\nc1,tst\n")
    with pytest.raises(UserError, match="'tst'"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="given", folds=4))
    (tmp_path / "cases.csv").write_text(
        "case,split\n" + "".join(f"c{i},train\n" for i in range(10))
    )
    with pytest.raises(UserError, match="no case is for the test"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="given", folds=4))
    (tmp_path / "cases.csv").unlink()
    with pytest.raises(UserError, match="none was found"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="given", folds=4))


def test_parts_that_share_cases_or_patients_are_refused(tmp_path: Path):
    disc_folder(tmp_path, count=8)
    (tmp_path / "splits.json").write_text(
        json.dumps({"mine": [{"test": ["c0"], "train": [f"c{i}" for i in range(8)]}]})
    )
    with pytest.raises(UserError, match="c0 would be in train and in test"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="mine"))
    (tmp_path / "splits.json").write_text(json.dumps({"mine": [{"test": ["c0"]}]}))
    rows = "".join(f"c{i},{'p' if i in (0, 4) else i}\n" for i in range(8))
    (tmp_path / "cases.csv").write_text("case,patient\n" + rows)
    with pytest.raises(UserError, match=r"of one patient or the same image.*stratified"):
        split_cases(check_folder(tmp_path).folder, DataSettings(partition="mine"))


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 5}',
        '{"a": [["c0"]]}',
        '{"a": [{"test": null}]}',
        '{"a": [{"test": ["c0"], "train": 5}]}',
    ],
)
def test_partitions_of_another_form_are_refused(content: str, tmp_path: Path):
    (disc_folder(tmp_path) / "splits.json").write_text(content)
    with pytest.raises(UserError, match=r"splits\.json: expected"):
        check_folder(tmp_path)


def test_images_that_are_the_same_are_of_one_patient_whatever_the_table_says(tmp_path: Path):
    disc_folder(tmp_path, count=9)
    (tmp_path / "images/c5.png").write_bytes((tmp_path / "images/c0.png").read_bytes())
    (tmp_path / "cases.csv").write_text(
        "case,patient\n" + "".join(f"c{i},p{i}\n" for i in range(9))
    )
    for fold in range(3):
        parts = split_cases(
            check_folder(tmp_path).folder, DataSettings(partition="stratified", folds=3, fold=fold)
        ).names()
        assert all(("c0" in part) == ("c5" in part) for part in parts.values())


def test_partitions_of_a_file(tmp_path: Path):
    disc_folder(tmp_path, count=8)
    (tmp_path / "splits.json").write_text(
        json.dumps({"mine": [{"test": ["c0"], "validation": ["c1"]}, {"test": ["c9"]}]})
    )
    folder = check_folder(tmp_path).folder
    parts = split_cases(folder, DataSettings(partition="mine")).names()
    assert parts == {"train": [f"c{i}" for i in range(2, 8)], "validation": ["c1"], "test": ["c0"]}
    for settings_, message in (
        (DataSettings(partition="mine", fold=1), "names cases that are not there: c9"),
        (DataSettings(partition="mine", fold=2), "the folds 0 to 1"),
        (DataSettings(partition="yours"), "expected the partition 'yours'; it holds mine"),
    ):
        with pytest.raises(UserError, match=message):
            split_cases(folder, settings_)


@given(st.integers(3, 60), st.integers(3, 6), st.integers(0, 5))
def test_the_parts_of_a_fold_are_a_partition(count: int, folds: int, fold: int):
    count, fold = max(count, folds), fold % folds
    cases = tuple(CaseFiles(f"{i:03d}", (Path(),), ()) for i in range(count))
    folder = DataFolder(Path(), cases, ("a", "b"))
    parts = split_cases(folder, DataSettings(folds=folds, fold=fold))
    together = sorted(case.name for case in (*parts.train, *parts.validation, *parts.test))
    assert together == [case.name for case in cases]
    assert [case.name for case in parts.test] == [f"{i:03d}" for i in range(fold, count, folds)]
    assert (
        parts.validation
        == split_cases(folder, DataSettings(folds=folds, fold=(fold + 1) % folds)).test
    )


def test_folds_are_those_of_the_file_or_of_the_settings(tmp_path: Path):
    disc_folder(tmp_path, count=8)
    (tmp_path / "splits.json").write_text(
        json.dumps({"mine": [{"test": [f"c{i}"]} for i in range(7)]})
    )
    folder = check_folder(tmp_path).folder
    assert fold_count(folder, DataSettings(partition="mine", folds=4)) == 7
    assert fold_count(folder, DataSettings(partition="stratified", folds=4)) == 4
    assert fold_count(folder, DataSettings(folds=3)) == 3


def test_the_folds_of_the_hippocampus_are_those_of_the_protocol(hippocampus: Path):
    folder = open_folder(hippocampus)
    names = sorted(p.name.removesuffix(".nii.gz") for p in (hippocampus / "imagesTr").iterdir())
    assert folder.classes == ("background", "Anterior", "Posterior")
    for fold in range(4):
        parts = split_cases(folder, DataSettings(folds=4, fold=fold))
        assert (len(parts.train), len(parts.validation), len(parts.test)) == (130, 65, 65)
        assert [case.name for case in parts.test] == names[fold::4]


def test_nnu_nets_folds_are_numpys_shuffle_cut_into_five():
    """Of the legacy generator; their lengths differ by at most one."""
    names = [f"case{i:02d}" for i in range(23)]
    cases = tuple(CaseFiles(name, (Path(),), ()) for name in names)
    order = np.arange(23)
    np.random.RandomState(12345).shuffle(order)
    tests = [sorted(names[i] for i in run) for run in np.array_split(order, 5)]
    for fold in range(5):
        chosen = DataSettings(partition="nnu-net", folds=5, fold=fold)
        split = split_cases(DataFolder(Path(), cases, ("a", "b")), chosen).names()
        assert (split["test"], split["validation"]) == (tests[fold], tests[(fold + 1) % 5])
    for few, folds in ((cases, 4), (cases[:4], 5)):
        with pytest.raises(UserError, match=r"--data\.folds 5"):
            split_cases(DataFolder(Path(), few, ("a", "b")), replace(chosen, folds=folds, fold=0))


def test_nnu_nets_folds_of_the_hippocampus_are_those_of_its_published_results(hippocampus: Path):
    table = SHARED.parent / "anchors" / "nnunet_hippocampus_out_of_fold.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not there")
    with table.open(encoding="utf-8", newline="") as file:
        published = {row["case"]: int(row["fold"]) for row in csv.DictReader(file)}
    folder = open_folder(hippocampus)
    for fold in range(5):
        chosen = DataSettings(partition="nnu-net", folds=5, fold=fold, validation=False)
        split = split_cases(folder, chosen)
        assert {case.name for case in split.test} == {n for n, k in published.items() if k == fold}
        assert len(split.train) == 208
