"""Folders of DICOM studies: paired by their references, and the same data as in other forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import ComputedRadiographyImageStorage

import cdal
from cdal.cli import main
from cdal.datasets.cases import load_case
from cdal.datasets.check import check_folder
from cdal.datasets.folder import list_folder, open_folder
from cdal.datasets.layouts.studies import list_cases, readings
from cdal.datasets.reading import read_case
from cdal.recipes.recipe import DataSettings
from helpers.files import save_nifti
from helpers.recipes import small_recipe
from helpers.studies import contour, outlines, places, write_mr, write_seg, write_structures_by_hand

AFFINE = np.array([[1.0, 0, 0, -7], [0, 1.25, 0, 4], [0, 0, 2.0, 11], [0, 0, 0, 1]])
SHAPE = (12, 14, 10)
NAMES = ("Anterior", "Posterior")
NAME, BORN, NUMBER = "Zzyzx^Quentin", "19030201", "PID-987123"


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with two bright boxes, and the boxes."""
    rng = np.random.default_rng(seed)
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 3 : 8 + seed % 2, 2:5], label[7:11, 5:11, 4:8] = 1, 2
    return rng.integers(100, 200, size=SHAPE) + 300 * label.astype(int), label


def study(
    folder: Path,
    values: np.ndarray,
    label: np.ndarray,
    affine: np.ndarray = AFFINE,
    kind: str = "seg",
    **fields: Any,
) -> list[Any]:
    """One study: a localizer, a series in files without suffix, and its annotation elsewhere."""
    write_mr(
        folder / "S1",
        values[:, :, :1],
        affine,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        SeriesNumber=1,
        **fields,
    )
    sources = write_mr(folder / "S2", values, affine, **fields)
    if kind == "seg":
        write_seg(folder / "S9" / "IM0001", sources, label, NAMES)
    else:
        structures = [(name, outlines(sources, label == k)) for k, name in enumerate(NAMES, 1)]
        write_structures_by_hand(folder / "RT" / "RT0001.dcm", sources[0], structures)
    return sources


def named(number: str = NUMBER) -> dict[str, object]:
    return {"patient": number, "PatientName": NAME, "PatientBirthDate": BORN}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six studies of five patients."""
    root = tmp_path_factory.mktemp("studies") / "export"
    for i in range(6):
        study(root / f"st{i}", *volume(i), **named(f"{NUMBER}-{i % 5}"))
    return root


@pytest.fixture(scope="module")
def niftis(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same volumes as NIfTI, with the same names and of the same patients."""
    root = tmp_path_factory.mktemp("niftis")
    for i in range(6):
        values, label = volume(i)
        save_nifti(root / "images" / f"st{i}_S2.nii.gz", values.astype(np.int16), AFFINE)
        save_nifti(root / "labels" / f"st{i}_S2.nii.gz", label, AFFINE)
    declared = {"background": 0, "Anterior": 1, "Posterior": 2}
    (root / "dataset.json").write_text(json.dumps({"labels": declared}))
    rows = [f"{name},{row['patient']}" for name, row in list_folder(studies).about.items()]
    (root / "cases.csv").write_text("\n".join(["case,patient", *rows]) + "\n")
    return root


def test_series_are_paired_with_the_annotations_that_refer_to_them(studies: Path):
    assert readings(studies)
    folder = list_folder(studies)
    assert not folder.problems
    assert [case.name for case in folder.cases] == [f"st{i}_S2" for i in range(6)]
    for i, case in enumerate(folder.cases):
        assert case.images == (studies / f"st{i}" / "S2",)
        assert case.slices == tuple(sorted((studies / f"st{i}" / "S2").iterdir()))
        assert case.labels[0].paths == (studies / f"st{i}" / "S9" / "IM0001",)
    patients = [folder.about[case.name]["patient"] for case in folder.cases]
    assert (len(set(patients)), patients[0]) == (5, patients[5])
    assert "6 series are localizers" in "".join(folder.passed_over)
    ignored = [one.message for one in check_folder(studies).findings if one.kind == "ignored"]
    assert ignored == list(folder.passed_over)


def test_studies_and_niftis_are_the_same_tensors(studies: Path, niftis: Path):
    settings = DataSettings(size=(8, 8, 8), spacing=(1.0, 1.0, 1.0), channels=1)
    ours, theirs = open_folder(studies), open_folder(niftis)
    assert ours.classes == theirs.classes
    for case, other in zip(ours.cases, theirs.cases, strict=True):
        first, second = load_case(case, ours, settings), load_case(other, theirs, settings)
        np.testing.assert_array_equal(first.labels.numpy(), second.labels.numpy())
        np.testing.assert_allclose(first.image.numpy(), second.image.numpy(), atol=1e-5)


@pytest.mark.slow
def test_studies_train_and_score_as_niftis_do(
    studies: Path, niftis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """And nothing that is printed or written names a patient."""
    data = DataSettings(size=(8, 8, 8), folds=3, channels=1, partition="stratified")
    recipe = replace(small_recipe(steps=2), data=data)
    scores = []
    for root in (studies, niftis):
        out = tmp_path / root.name
        model = cdal.train(recipe, root, out / "run", "cpu")
        result = cdal.evaluate(model, root, cdal.Sampling(votes=1))
        scores.append(result.summary()["classes"])
    for name, values in scores[0].items():
        assert values["dice"] == scores[1][name]["dice"]
        # Positions are decimal text in DICOM, and float32 in NIfTI.
        distance = scores[1][name]["assd"]
        expected = distance and pytest.approx(distance, rel=1e-5)  # none if nothing is segmented
        assert values["assd"] == expected
    run, out = str(tmp_path / studies.name / "run"), str(tmp_path / "out")
    assert main(["check", str(studies), "--all"]) == 0
    assert main(["check", str(studies), "--json"]) == 0
    assert main(["evaluate", run, "--data", str(studies), "--out", out, "--votes", "1"]) == 0
    series = str(studies / "st0" / "S2")
    command = ["predict", run, series, "--out", out, "--votes", "1"]
    assert main([*command, "--save", "mask", "rtstruct"]) == 0
    printed = capsys.readouterr()
    shown = (printed.out + printed.err).encode()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":  # results in DICOM carry their patient
            shown += path.read_bytes()
    for part in ("Zzyzx", "Quentin", BORN, NUMBER):
        assert part.encode() not in shown
    assert pydicom.dcmread(Path(out) / "S2_rtstruct.dcm").PatientID == f"{NUMBER}-0"


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def test_structures_are_the_masks_that_they_were_drawn_from(tmp_path: Path):
    values, label = volume(0)
    study(tmp_path / "st0", values, label, kind="rt")
    folder = open_folder(tmp_path)
    image, (drawn,) = read_case(folder.cases[0], folder)
    assert folder.classes == ("background", *NAMES)
    own = np.flip(drawn.array[0], 0).transpose(2, 1, 0)  # slices, rows, columns
    for k in (1, 2):
        assert dice(own == k, label == k) > 0.97
    assert image.shape == drawn.shape


def test_a_file_for_each_class_is_one_annotation(tmp_path: Path):
    values, label = volume(0)
    sources = write_mr(tmp_path / "s", values, AFFINE)
    for k, name in enumerate(NAMES, 1):
        write_seg(tmp_path / f"{name}.dcm", sources, (label == k).astype(np.uint8), [name])
    folder = open_folder(tmp_path)
    _, (drawn,) = read_case(folder.cases[0], folder)
    np.testing.assert_array_equal(np.bincount(drawn.array.ravel()), np.bincount(label.ravel()))


def problems(root: Path) -> str:
    return "\n".join(list_cases(root).problems)


def test_what_cannot_be_paired_is_told_with_the_reason(tmp_path: Path):
    values, label = volume(0)
    sources = write_mr(tmp_path / "a", values, AFFINE, SeriesDescription="T2", SeriesNumber=5)
    assert not readings(tmp_path)
    gone = write_mr(tmp_path / "gone", values, AFFINE)
    write_seg(tmp_path / "lost.dcm", gone, label, NAMES)
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    assert readings(tmp_path)
    listed = list_cases(tmp_path)
    assert not listed.cases
    assert "lost.dcm: the series that it refers to" in problems(tmp_path)
    assert "series without an annotation: a, 5: T2 (10 files)" in "".join(listed.passed_over)
    write_seg(tmp_path / "one.dcm", sources, label, NAMES)
    write_seg(tmp_path / "two.dcm", sources, label, NAMES)
    assert "one.dcm" in problems(tmp_path)
    assert "two annotators, or two versions" in problems(tmp_path)
    (tmp_path / "two.dcm").unlink()
    (tmp_path / "seg").touch()
    assert "files that hold nothing: seg" in "".join(list_cases(tmp_path).passed_over)
    (tmp_path / "a" / "IM0003").write_bytes(bytes(99))
    assert "IM0003 cannot be read as DICOM" in problems(tmp_path)


def test_what_is_no_image_is_passed_over(tmp_path: Path):
    values, label = volume(0)
    study(tmp_path / "st0", values, label)
    (tmp_path / "st0" / "S2" / "README").write_text("Wie man das öffnet")
    (tmp_path / "st0" / "S2" / "DICOMDIR").write_bytes(bytes(400))
    (tmp_path / "st0" / "S2" / ".DS_Store").write_bytes(bytes(400))
    (tmp_path / "viewer.exe").write_bytes(bytes(400))
    write_mr(tmp_path / "st0" / "dose", values[:, :, :1], AFFINE, Modality="RTDOSE")
    folder = list_cases(tmp_path)
    assert (len(folder.cases), folder.problems) == (1, ())
    assert len(folder.cases[0].slices) == SHAPE[2]
    assert "other DICOM objects: 1 RTDOSE" in "".join(folder.passed_over)


def test_without_references_to_series_the_space_decides(tmp_path: Path):
    values, label = volume(0)
    sources = write_mr(tmp_path / "a", values, AFFINE)
    structures = [(NAMES[0], outlines(sources, label == 1))]
    path = write_structures_by_hand(tmp_path / "r.dcm", sources[0], structures)
    file = pydicom.dcmread(path)
    del file.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    file.save_as(path)
    assert [case.name for case in list_cases(tmp_path).cases] == ["a"]
    write_mr(tmp_path / "b", values, AFFINE, FrameOfReferenceUID=sources[0].FrameOfReferenceUID)
    assert "r.dcm: expected an annotation of one series; it fits 2" in problems(tmp_path)


def test_a_radiograph_is_a_case_by_itself(tmp_path: Path):
    def flat(_: int, file: Any) -> None:
        file.Modality, file.SOPClassUID = "CR", ComputedRadiographyImageStorage
        file.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(file, keyword)

    values, label = volume(0)
    sources = write_mr(tmp_path / "x", values[:, :, 4:6], AFFINE, change=flat)
    write_seg(tmp_path / "seg.dcm", sources[1:], label[:, :, 5:6], NAMES)
    folder = open_folder(tmp_path)
    (case,) = folder.cases
    assert case.images == case.slices == (tmp_path / "x" / "IM0001",)
    _, (drawn,) = read_case(case, folder)
    np.testing.assert_array_equal(drawn.array[0], label[:, :, 5].T)


@pytest.mark.parametrize("folder", [NAME, f"patient {NUMBER}", "born-1903-02-01", "a" * 90])
def test_a_folder_called_after_its_patient_names_no_case(folder: str, tmp_path: Path):
    study(tmp_path / folder, *volume(0), **named())
    (case,) = list_cases(tmp_path).cases
    assert case.name.startswith("series_")
    assert len(case.name) < 40


def test_series_of_one_folder_are_told_apart(tmp_path: Path):
    values, label = volume(0)
    for first in (0, 100):
        name = f"{{:04d}}-{first}".format
        sources = write_mr(tmp_path / "all", values, AFFINE, name=name)
        write_seg(tmp_path / "all" / f"seg{first}", sources, label, NAMES)
    names = [case.name for case in list_cases(tmp_path).cases]
    assert len(set(names)) == 2
    assert all(name.startswith("all_series3_") for name in names)


def test_the_check_tells_of_fractions_and_of_structures_without_a_voxel(tmp_path: Path):
    values, label = volume(0)
    for name in ("a", "b"):
        sources = write_mr(tmp_path / name / "s", values + (name == "b"), AFFINE)
        write_seg(tmp_path / name / "seg.dcm", sources, label, NAMES, "FRACTIONAL")
    sources = write_mr(tmp_path / "c" / "s", values + 2, AFFINE)
    line = contour(places(sources[2], np.array([(2.5, 3.5), (2.5, 9.5)])))
    structures = [(NAMES[0], outlines(sources, label == 1)), (NAMES[1], [line])]
    write_structures_by_hand(tmp_path / "c" / "rt", sources[0], structures)
    found = {
        (finding.level, finding.case): finding.message
        for finding in check_folder(tmp_path).findings
    }
    assert "one half and more are inside" in found["note", "a_s"]
    assert "1 objects cover no voxel" in found["warning", "c_s"]


def test_contours_that_fit_no_slice_are_found_by_the_check(tmp_path: Path):
    values, _ = volume(0)
    sources = write_mr(tmp_path / "a", values, AFFINE)
    far = places(sources[2], np.array([(2.5, 3.5), (2.5, 9.5), (7.5, 9.5)])) + np.array((0, 0, 500))
    write_structures_by_hand(tmp_path / "r.dcm", sources[0], [("liver", [contour(far)])])
    messages = "".join(finding.message for finding in check_folder(tmp_path).errors)
    assert "slices beside the image" in messages


def hippocampus_in(root: Path, source: Path, names: Sequence[str], kind: str) -> Path:
    """Real volumes as studies, or as NIfTI."""
    for name in names:
        image = nib.load(source / "imagesTr" / f"{name}.nii.gz")
        label = np.asarray(nib.load(source / "labelsTr" / f"{name}.nii.gz").dataobj)
        values = np.round(image.dataobj).astype(np.uint16)  # as DICOM has them
        if kind == "nifti":
            save_nifti(root / "images" / f"{name}_S2.nii.gz", values, image.affine)
            save_nifti(root / "labels" / f"{name}_S2.nii.gz", label.astype(np.uint8), image.affine)
        else:
            patient = f"Q{name[-3:]}X"  # a name that held it would not be that of the case
            study(root / name, values, label.astype(np.uint8), image.affine, kind, patient=patient)
    return root


@pytest.mark.slow
def test_real_volumes_train_and_score_alike_in_every_form(hippocampus: Path, tmp_path: Path):
    """Twenty volumes for 100 steps: the same scores as NIfTI and as DICOM-SEG."""
    files = sorted((hippocampus / "imagesTr").glob("hippocampus_*.nii.gz"))
    names = [path.name.removesuffix(".nii.gz") for path in files[:20]]
    scores = {}
    for kind in ("nifti", "seg"):
        root = hippocampus_in(tmp_path / kind, hippocampus, names, kind)
        out = tmp_path / f"run-{kind}"
        words = ["--steps", "100", "--seed", "1", "--device", "cpu"]
        assert main(["check", str(root)]) == 0
        assert main(["train", "hippocampus", "--data", str(root), "--out", str(out), *words]) == 0
        result = cdal.evaluate(out, root, cdal.Sampling(votes=2))
        classes = result.summary()["classes"].values()
        scores[kind] = [(values["dice"], values["assd"]) for values in classes]
    for ours, theirs in zip(scores["seg"], scores["nifti"], strict=True):
        assert ours[0] == theirs[0]
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)  # positions are text in DICOM
    root = hippocampus_in(tmp_path / "rt", hippocampus, names, "rt")
    folder, plain = open_folder(root), open_folder(tmp_path / "seg")
    for case, other in zip(folder.cases, plain.cases, strict=True):
        (drawn,), (label,) = read_case(case, folder)[1], read_case(other, plain)[1]
        for k in (1, 2):
            assert dice(drawn.array == k, label.array == k) > 0.97
