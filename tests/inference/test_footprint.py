"""Memory is refused before it is taken."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.inference.footprint import bytes_needed
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime import memory
from cdal.runtime.errors import UserError


def recipe(**data: object) -> Recipe:
    return Recipe("x", DataSettings(**data), ImageUNetSettings(channels=(4, 8, 8)))


def needed(shape: tuple[int, ...], settings: Recipe, votes: int = 2, **options: object) -> int:
    frame = Frame(Image(np.zeros((1, *shape), np.float32)), settings.data)
    return bytes_needed(frame, settings, 3, votes, options.pop("keep", ()), **options)


def test_what_is_needed_by_hand():
    """64 voxels in one piece: image twice, votes three times, mean and spread, mask twice."""
    settings = recipe(size=(4, 4, 4))
    assert needed((4, 4, 4), settings) == 64 * (2 * 4 + 3 * 2 * 3 * 4 + 4 * 4 + 2)
    kept = needed((4, 4, 4), settings, keep=("probability", "uncertainty"))
    assert kept == needed((4, 4, 4), settings) + 2 * 64 * 4 * 4
    assert needed((4, 4, 4), settings, votes=7) - needed((4, 4, 4), settings) == 3 * 64 * 5 * 3 * 4


def test_votes_take_the_memory_of_a_band_and_not_of_the_image():
    settings = recipe(size=(16, 16, 16), whole=1.0)
    growth = [
        needed((rows, 64, 64), settings, votes=5) - needed((rows, 64, 64), settings, votes=4)
        for rows in (32, 64, 640)
    ]
    assert growth == [16 * 64 * 64 * 3 * 4] * 3


def test_a_large_picture_takes_two_bands_and_a_thumbnail(monkeypatch: pytest.MonkeyPatch):
    """Rows as the network sees them and the next ones; what is ready of two bands; mask."""
    monkeypatch.setattr("cdal.inference.footprint.LARGE", 1000)
    monkeypatch.setattr("cdal.inference.glass.LARGE", 1000)
    settings = recipe(spatial_dims=2, size=(16, 16), whole=1.0, channels=3)
    picture = Image(np.zeros((3, 96, 64), np.float32), stored=np.dtype(np.uint8))
    band = 16 * 64
    found = bytes_needed(Frame(picture, settings.data), settings, 3, 2, ())
    thumbnail = 6 * 4 * 3 * (8 + 4)
    assert found == band * (2 * 3 * 4 + 2 * 3 * 4 + 2 * 4 * 4) + thumbnail


def test_a_patch_larger_than_the_image_counts():
    assert needed((4, 4), recipe(spatial_dims=2, size=(4096, 4096))) > 4096**2 * 2 * 3 * 4


def test_an_image_that_does_not_fit_is_refused_and_the_next_is_segmented(
    volume_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(0)
    for name, size in (("large", 48), ("small", 16)):
        array = rng.normal(size=(size,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    monkeypatch.setattr(memory, "free_memory", lambda: 2_000_000)
    images = [tmp_path / f"{name}.nii.gz" for name in ("large", "small")]
    written = predict(volume_model, images, tmp_path / "out", Sampling(votes=2))
    assert [Path(row["input"]).name for row in written.done] == ["small.nii.gz"]
    (message,) = written.failed.values()
    assert "2 votes of 3 classes on (48, 48, 48) voxels: about" in message
    assert "fewer --votes" in message
    with pytest.raises(UserError, match="GiB of memory"):
        load(volume_model, Sampling(votes=2)).predict(images[0])
