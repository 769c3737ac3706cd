"""Judging cases: verdicts, images unlike the training images, and headers that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from cdal.cli import main
from cdal.imaging.grid import Frame, to_grid
from cdal.imaging.image import Image
from cdal.inference.judge import Judge
from cdal.inference.likeness import sizes
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.inference.signs import Signs
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import read_header
from helpers.files import picture


def with_header(trained: Path, out: Path, **changed: object) -> Path:
    """The trained model with other values in its header."""
    model = trained / "model.safetensors"
    save_model(out, load_file(model), replace(read_header(model), **changed))
    return out


def seen(limit: float = 0.0, **changed: object) -> dict:
    aspects = {
        name: {"mean": [0.0] * count, "precision": np.eye(count).tolist(), "usual": 1.0}
        for name, count in (("intensities", 5), ("texture", 3))
    }
    values = {"count": 30, "lengths": [], "spacing": [], "aspects": aspects, "limit": limit}
    return {**values, "nearer": {}, **changed}


def gray(path: Path, seed: int = 0) -> Path:
    return picture(path, np.random.default_rng(seed).integers(0, 255, (32, 32), np.uint8))


def test_the_record_says_verdict_warnings_and_quality(trained: Path, tmp_path: Path):
    model = with_header(trained, tmp_path / "m.safetensors", training_images=seen(1e-3))
    image = gray(tmp_path / "a.png")
    (row,) = predict(model, [image], tmp_path / "out", Sampling(review_below=0.0)).done
    assert row["outside"] and row["verdict"] == "review"
    assert "differs from the training images in intensities" in row["warnings"][0]
    assert 0 <= row["quality"]["lesion"]["expected_dice"] <= 1
    kept = with_header(trained, tmp_path / "k.safetensors", training_images=seen(1e6))
    (row,) = predict(kept, [image], tmp_path / "out2", Sampling(review_below=0.0)).done
    assert row["verdict"] == "accept" and row["outside"] is False and row["warnings"] == []
    (row,) = predict(kept, [image], tmp_path / "out3", Sampling(review_below=1.0)).done
    assert row["verdict"] == "review"
    (row,) = predict(kept, [image], tmp_path / "out4").done
    assert "verdict" not in row


def test_another_limit_is_another_result(trained: Path, tmp_path: Path):
    image = gray(tmp_path / "a.png")
    for limit, verdict in ((0.0, "accept"), (1.0, "review")):
        written = predict(trained, [image], tmp_path / "out", Sampling(review_below=limit))
        assert written.done[0]["verdict"] == verdict and not written.earlier


def test_strict_refuses_what_is_unlike(trained: Path, tmp_path: Path, capsys):
    model = with_header(trained, tmp_path / "m.safetensors", training_images=seen(1e-3))
    image = gray(tmp_path / "a.png")
    with pytest.raises(UserError, match="unlike the images that the model was trained on"):
        load(model, Sampling(strict=True)).predict(image)
    words = ["predict", str(model), str(image), "--out", str(tmp_path / "out")]
    assert main([*words, "--strict"]) == 2
    assert "Omit --strict" in capsys.readouterr().err
    assert main(words) == 0
    assert "1 unlike the training images:" in capsys.readouterr().out


def test_a_fit_for_another_sampling_is_not_used(trained: Path):
    fitted = load(trained).judge
    assert fitted.missing == "" and fitted.quality is not None
    other = load(trained, Sampling(votes=3)).judge
    assert other.quality is None and other.missing == "it was fitted with votes 15, and not 3"


def test_components_are_taken_into_account(trained: Path):
    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    prediction = load(trained, Sampling(components=1)).predict(image)
    p, inside = prediction.probability[1], prediction.mask == 1
    ours = 2 * p[inside].sum() / (inside.sum() + p.sum()) if inside.any() else None
    if ours is not None:
        assert prediction.signs.expected_dice(1) == pytest.approx(ours, rel=1e-4)
    assert prediction.signs.voxels[1] == inside.sum()


@pytest.mark.parametrize(
    "changed",
    [
        {"quality": {"classes": 3}},
        {"quality": {"classes": {}, "cases": "x", "sampling": {}}},
        {"training_images": seen(1.0, nearer=3)},
        {"training_images": {**seen(), "aspects": {"texture": 1}}},
        {"training_images": {"count": 1}},
        {"training_images": seen(float("inf"))},
    ],
)
def test_damaged_headers_are_refused_with_the_remedy(trained: Path, tmp_path: Path, changed: dict):
    model = with_header(trained, tmp_path / "m.safetensors", **changed)
    with pytest.raises(UserError, match="cdal calibrate"):
        load(model)


def test_the_terminal_names_the_cases_for_review(trained: Path, tmp_path: Path, capsys):
    images = [str(gray(tmp_path / f"{i}.png", i)) for i in range(7)]
    out = tmp_path / "out"
    assert main(["predict", str(trained), *images, "--out", str(out), "--review-below", "1"]) == 0
    printed = capsys.readouterr().out
    assert "7 of 7 for review:" in printed and "... and 2 more" in printed
    rows = json.loads((out / "predictions.json").read_text())
    rows = rows if isinstance(rows, list) else next(v for v in rows.values() if isinstance(v, list))
    assert all(row["verdict"] == "review" for row in rows)
    main(["predict", str(trained), *images, "--out", str(tmp_path / "out2")])
    assert "lowest expected Dice:" in capsys.readouterr().out


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_the_order_of_the_axes_in_a_file_does_not_matter(
    dims: int, axes: tuple[int, ...], flips: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """An image is compared as the training images were described: on the network's grid."""
    data = DataSettings(spatial_dims=dims, size=(8,) * dims, spacing=(1.0, 1.0, 1.0))
    values = np.random.default_rng(0).random((9, 10, 11)).astype(np.float32)
    straight = Image(values[None], np.diag([1.0, 1.0, 1.0, 1.0]))
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * np.array(flips)
    stored = values.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
    turned = Image(np.ascontiguousarray(stored)[None], affine)
    seen_images = []
    monkeypatch.setattr(
        "cdal.inference.judge.doubts",
        lambda seen, image, lengths, spacing, data: seen_images.append((image, lengths)) or [],
    )
    judge = Judge.__new__(Judge)
    judge.seen, judge.data, judge.options = object(), data, Sampling()
    for image in (straight, turned):
        frame = Frame(image, data, "a")
        judge.see(Signs(2), frame.read, frame, "a")
    described = to_grid(straight, data).array
    for image, lengths in seen_images:
        np.testing.assert_array_equal(image, described)
        assert lengths == sizes((9, 10, 11), np.eye(4))[0]


def test_strict_needs_to_know_the_training_images(trained: Path, tmp_path: Path):
    model = with_header(trained, tmp_path / "m.safetensors", training_images={})
    with pytest.raises(UserError, match="--strict cannot compare"):
        load(model, Sampling(strict=True))
    image = np.zeros((32, 32), np.uint8)
    image[8:20, 8:20] = 200
    assert "outside" not in load(model).predict(image).judgement


def test_images_outside_have_no_intervals(trained: Path, tmp_path: Path):
    model = with_header(trained, tmp_path / "m.safetensors", training_images=seen(1e-3))
    image = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    judgement = load(model).predict(image).judgement
    assert judgement["outside"] and judgement["quality"]["lesion"]["dice_interval"] is None
