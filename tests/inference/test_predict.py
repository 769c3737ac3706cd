"""Prediction, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

import cdal
from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.inference.decision import spread
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import OBLIQUE, SHAPE, volume


def test_a_mask_lies_on_its_image(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "scan.nii.gz")
    kinds = ("mask", "probability", "uncertainty", "votes")
    written = predict(volume_model, [source], tmp_path / "out", Sampling(votes=3), save=kinds)
    assert not written.failed
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"scan_{k}.nii.gz" for k in kinds} | {"predictions.json"}
    expected = {"mask": SHAPE, "probability": (*SHAPE, 2), "uncertainty": SHAPE, "votes": (*SHAPE, 3)}
    for kind, shape in expected.items():
        file = nib.load(tmp_path / "out" / f"scan_{kind}.nii.gz")
        assert file.shape == shape
        np.testing.assert_allclose(file.affine, OBLIQUE, atol=1e-6)
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    mask = np.asarray(nib.load(tmp_path / "out" / "scan_mask.nii.gz").dataobj)
    assert row["volume"]["a"] == pytest.approx((mask == 1).sum() * abs(np.linalg.det(OBLIQUE[:3, :3])), rel=0.05)


def test_the_class_is_decided_after_resampling(volume_model: Path, tmp_path: Path):
    prediction = load(volume_model, Sampling(votes=4)).predict(volume(tmp_path / "a.nii.gz"), keep_votes=True)
    np.testing.assert_array_equal(prediction.mask, prediction.probability.argmax(axis=0))
    np.testing.assert_allclose(prediction.votes.mean(axis=0), prediction.probability, atol=1e-5)
    np.testing.assert_allclose(prediction.probability.sum(axis=0), 1, atol=1e-4)
    assert prediction.uncertainty.max() > 0


def test_the_same_volume_in_another_orientation_gets_the_same_mask(volume_model: Path, tmp_path: Path):
    """Stored axes are permuted and flipped; the voxels and their places are the same, and so is the answer."""
    first = nib.load(volume(tmp_path / "a.nii.gz", affine=np.diag([1.0, 1.0, 1.0, 1.0])))
    turned = first.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "b.nii.gz")
    predictor = load(volume_model, Sampling(seed=3))
    here = predictor.predict(tmp_path / "a.nii.gz", case="x").probability
    there = predictor.predict(tmp_path / "b.nii.gz", case="x").probability
    back = np.stack(
        [
            np.asarray(
                nib.Nifti1Image(p, turned.affine)
                .as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(first.affine)))
                .dataobj
            )
            for p in there
        ]
    )
    np.testing.assert_allclose(back, here, atol=1e-3)


def test_arrays_are_images_too(volume_model: Path, trained: Path):
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert cdal.load(volume_model).predict(array).mask.shape == SHAPE
    picture = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    prediction = cdal.load(trained, Sampling(votes=8)).predict(picture)
    assert prediction.mask.shape == (40, 30)
    np.testing.assert_array_equal(cdal.load(trained, Sampling(votes=8)).predict(picture[None]).mask, prediction.mask)


def test_a_seed_repeats_and_another_does_not(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "a.nii.gz")
    first, again, other = (load(volume_model, Sampling(seed=seed)).predict(source).probability for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_votes_differ_and_the_twin_has_one_opinion(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "a.nii.gz", affine=np.eye(4))
    prediction = load(volume_model, Sampling(votes=6)).predict(source, keep_votes=True)
    np.testing.assert_allclose(prediction.uncertainty, spread(prediction.votes), atol=1e-3)
    assert prediction.uncertainty.mean() > 0.01
    twin = load(volume_model, Sampling(votes=6, timesteps=0))
    assert twin.predict(source, keep_votes=True).votes.shape[0] == 1
    twin = load(volume_model, Sampling(votes=6, timesteps=0, mirror=True))
    assert twin.predict(source, keep_votes=True).votes.shape[0] == 2  # one for each mirror image
    with pytest.raises(UserError, match="divisor"):
        load(volume_model, Sampling(timesteps=3))


def test_pictures_get_pictures(trained: Path, phantoms: Path, tmp_path: Path):
    code = main(["predict", str(trained), str(phantoms / "images"), "--out", str(tmp_path), "--save", "mask", "uncertainty"])
    assert code == 0
    mask = np.asarray(Pillow.open(tmp_path / "phantom_0003_mask.png"))
    assert mask.shape == (32, 32)
    assert mask.max() <= 1
    assert len(list(tmp_path.glob("*_mask.png"))) == 16
    # A second call into the same folder takes no result for an image.
    assert main(["predict", str(trained), str(tmp_path), "--out", str(tmp_path)]) == 2
    assert len(list(tmp_path.glob("*_mask.png"))) == 16


def test_files_that_no_prediction_made_are_kept(trained: Path, phantoms: Path, tmp_path: Path):
    """A mask drawn by hand is not replaced, an image called mask is segmented, and our own results may be made again."""
    names = [case.name for case in open_folder(phantoms).cases[:2]]
    (tmp_path / f"{names[0]}.png").write_bytes((phantoms / "images" / f"{names[0]}.png").read_bytes())
    (tmp_path / "skin_mask.png").write_bytes((phantoms / "images" / f"{names[1]}.png").read_bytes())
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / f"{names[0]}_mask.png").write_bytes(b"drawn by hand")
    for _ in range(2):
        written = predict(trained, [tmp_path], tmp_path / "hand", Sampling(votes=1))
        assert [Path(row["input"]).name for row in written.done] == ["skin_mask.png"]
        assert "was not made by a prediction" in written.failed[str(tmp_path / f"{names[0]}.png")]
    assert (tmp_path / "hand" / f"{names[0]}_mask.png").read_bytes() == b"drawn by hand"


def test_results_of_one_name_and_two_formats_stand_side_by_side(trained: Path, phantoms: Path, tmp_path: Path):
    picture = open_folder(phantoms).cases[0].image
    scan = volume(tmp_path / f"{picture.stem}.nii.gz")
    for _ in range(2):
        assert not predict(trained, [picture, scan], tmp_path / "out", Sampling(votes=1)).failed
    suffixes = {p.name.removeprefix(f"{picture.stem}_mask") for p in (tmp_path / "out").glob("*_mask*")}
    assert suffixes == {".png", ".nii.gz"}


def test_the_record_keeps_what_earlier_calls_wrote(trained: Path, phantoms: Path, tmp_path: Path):
    images = [case.image for case in open_folder(phantoms).cases[:3]]
    predict(trained, images[:2], tmp_path, Sampling(votes=1))
    (tmp_path / f"{images[0].stem}_mask.png").unlink()
    predict(trained, images[1:], tmp_path, Sampling(votes=3))
    rows = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [(Path(row["input"]).stem, row["vote_count"]) for row in rows] == [(p.stem, 3) for p in images[1:]]


def test_votes_are_those_that_were_drawn(trained: Path, phantoms: Path, tmp_path: Path):
    written = predict(trained, [open_folder(phantoms).cases[0].image], tmp_path, Sampling(votes=9, timesteps=0))
    assert written.done[0]["vote_count"] == 1


@pytest.mark.parametrize("mode", ["P", "LA"])
def test_a_picture_is_the_same_in_every_mode(mode: str, trained: Path, phantoms: Path, tmp_path: Path):
    gray = Pillow.open(open_folder(phantoms).cases[0].image)
    if mode == "LA":
        gray.convert("LA").save(tmp_path / "a.png")
    else:
        order = np.random.default_rng(0).permutation(256)
        indices = Pillow.fromarray(np.argsort(order).astype(np.uint8)[np.asarray(gray)], mode="P")
        indices.putpalette(np.repeat(order.astype(np.uint8), 3).tobytes())
        indices.save(tmp_path / "a.png")
    predictor = load(trained)
    expected = predictor.predict(open_folder(phantoms).cases[0].image, case="x").probability
    np.testing.assert_allclose(predictor.predict(tmp_path / "a.png", case="x").probability, expected, atol=1e-5)


def test_the_mask_has_the_shape_of_its_file(volume_model: Path, tmp_path: Path):
    predict(volume_model, [volume(tmp_path / "a.nii.gz", shape=(*SHAPE, 1))], tmp_path / "out", Sampling(votes=1))
    assert nib.load(tmp_path / "out" / "a_mask.nii.gz").shape == (*SHAPE, 1)


def test_a_spacing_in_the_wrong_unit_is_refused(volume_model: Path, tmp_path: Path):
    path = volume(tmp_path / "a.nii.gz", affine=np.diag([80.0, 80.0, 80.0, 1.0]))
    with pytest.raises(UserError, match="millimetres"):
        load(volume_model).predict(path)


@pytest.mark.parametrize("kind", ["complex", "colour"])
def test_voxels_that_are_no_single_numbers_are_refused(kind: str, volume_model: Path, tmp_path: Path):
    dtype = np.dtype(np.complex64) if kind == "complex" else np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), dtype), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="one number a voxel"):
        load(volume_model).predict(tmp_path / "a.nii.gz")


def test_a_model_of_one_channel_refuses_three(trained: Path, tmp_path: Path):
    colours = np.random.default_rng(0).integers(256, size=(32, 32, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / "colour.png")
    with pytest.raises(UserError, match=r"expected 1 channel.* it has 3"):
        load(trained).predict(tmp_path / "colour.png")


def test_a_plain_network_has_no_timesteps(tmp_path: Path):
    recipe = Recipe("x", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(8, 12, 16)))
    segmenter = build_segmenter(recipe, 1, 2)
    header = ModelHeader(recipe, ("background", "a"), 1)
    save_model(tmp_path / "m.safetensors", segmenter.network.state_dict(), header)
    with pytest.raises(UserError, match="timesteps belong to diffusion"):
        load(tmp_path / "m.safetensors", Sampling(timesteps=2))
