"""nnU-Net's raw data, in both of its forms, and the Decathlon's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.runtime.errors import UserError
from helpers.files import kinds, picture, save_nifti
from helpers.layouts import decathlon, nnunet, pair


def declare(root: Path, **content: Any) -> Path:
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def test_the_second_form_names_channels_classes_and_the_end_of_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(4):
        for channel in range(2):
            save_nifti(
                tmp_path / f"imagesTr/c{i}_{channel:04d}.nii.gz",
                rng.normal(size=(8, 9, 10)).astype(np.float32),
            )
        save_nifti(
            tmp_path / f"labelsTr/c{i}.nii.gz", rng.integers(3, size=(8, 9, 10)).astype(np.uint8)
        )
    picture(tmp_path / "labelsTr/preview.png", np.zeros((4, 4), np.uint8))
    declare(
        tmp_path,
        channel_names={"0": "T2", "1": "ADC"},
        labels={"background": 0, "PZ": 1, "TZ": 2},
        numTraining=4,
        file_ending=".nii.gz",
    )
    checked = check_folder(tmp_path)
    assert not checked.errors
    assert checked.folder.layout == "nnU-Net: imagesTr/ and labelsTr/"
    assert checked.folder.classes == ("background", "PZ", "TZ")
    assert [case.channels for case in checked.folder.cases] == [2] * 4
    assert "preview.png" in kinds(tmp_path, "warning")["ignored"]
    case = checked.folder.cases[0]
    assert read_case(case, checked.folder)[0].array.shape == (2, 8, 9, 10)


def test_the_first_form_has_modalities(tmp_path: Path):
    nnunet(tmp_path)
    declare(tmp_path, modality={"0": "CT"}, labels={"0": "background", "1": "liver"})
    folder = open_folder(tmp_path)
    assert folder.layout.startswith("nnU-Net: ")
    assert folder.classes == ("background", "liver")
    assert folder.cases[0].name == "c0"


def test_a_file_for_each_channel_is_needed(tmp_path: Path):
    nnunet(tmp_path)
    pair(tmp_path / "imagesTr/c0_0001.nii.gz", tmp_path / "labelsTr/c0.nii.gz", 0)
    with pytest.raises(UserError, match="c1 has no channel 0001"):
        open_folder(tmp_path)
    for i in range(1, 6):
        pair(tmp_path / f"imagesTr/c{i}_0001.nii.gz", tmp_path / f"labelsTr/c{i}.nii.gz", i)
    declare(tmp_path, channel_names=["a", "b", "c"], file_ending=".nii.gz")
    with pytest.raises(UserError, match=r"expected 3 channel\(s\), as it declares; c0 has 2"):
        open_folder(tmp_path)
    declare(tmp_path, channel_names=["a", "b"], file_ending=".nii.gz")
    assert len(open_folder(tmp_path).cases) == 6
    (tmp_path / "imagesTr/c0_0000.nii.gz").rename(tmp_path / "imagesTr/c0.nii.gz")
    with pytest.raises(UserError, match="expected a name that ends in the number of its channel"):
        open_folder(tmp_path)


def test_modalities_that_are_missing_in_all_cases_are_found(tmp_path: Path):
    nnunet(tmp_path)
    declare(tmp_path, channel_names={"0": "T2", "1": "ADC"}, file_ending=".nii.gz")
    assert "expected 2 channel(s)" in kinds(tmp_path, "warning")["channels"]


def test_regions_and_what_nobody_annotated_are_refused_by_name(tmp_path: Path):
    nnunet(tmp_path)
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    declare(tmp_path, labels=regions, regions_class_order=[1, 2], file_ending=".nii.gz")
    with pytest.raises(UserError, match=r"regions .* are not supported"):
        open_folder(tmp_path)
    for name in ("ignore", "Ignore", "void"):
        declare(tmp_path, labels={"background": 0, "liver": 1, name: 2}, file_ending=".nii.gz")
        with pytest.raises(UserError, match=f"{name}.* marks what nobody annotated"):
            open_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"file_ending": 5}, "file_ending"),
        ({"file_ending": "nii.gz"}, "file_ending"),
        ({"channel_names": "CT", "file_ending": ".nii.gz"}, "channel_names"),
        ({"channel_names": {}, "file_ending": ".nii.gz"}, "channel_names"),
    ],
)
def test_declarations_of_another_form_are_refused(
    content: dict[str, Any], message: str, tmp_path: Path
):
    declare(nnunet(tmp_path), **content)
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)


def test_the_decathlon_has_one_file_for_all_channels(tmp_path: Path):
    declare(
        decathlon(tmp_path),
        modality={"0": "FLAIR", "1": "T1w"},
        labels={"0": "background", "1": "edema"},
    )
    folder = open_folder(tmp_path)
    assert folder.layout.startswith("Decathlon: ")
    assert [case.channels for case in folder.cases] == [2] * 6


def test_cases_for_the_test_are_not_passed_over_in_silence(tmp_path: Path):
    decathlon(tmp_path)
    (tmp_path / "imagesTs").mkdir()
    assert not kinds(tmp_path, "warning")
    pair(tmp_path / "imagesTs/t.nii.gz", tmp_path / "labelsTs/t.nii.gz", 0)
    assert "imagesTs" in kinds(tmp_path, "warning")["ignored"]
