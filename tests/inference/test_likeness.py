"""Whether images suit a model: synthetic images, with changes made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cdal.evaluation.fit_likeness import Described, fit_likeness
from cdal.inference.likeness import TrainingImages, changes, doubts, features, sizes
from cdal.recipes.recipe import DataSettings

WHOLE = DataSettings(spatial_dims=2, size=(32, 32), resize=(32, 32))
WINDOWS = replace(WHOLE, resize=None)


def picture(seed: int) -> np.ndarray:
    """A bright blob at the upper left of a dark ground, normalised, `[1, 32, 32]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    far = np.hypot(y - 9 - rng.normal(), x - 12 - rng.normal()) / (6 + rng.normal() / 2)
    values = np.exp(-far) + ndimage.gaussian_filter(rng.normal(0, 0.3, (32, 32)), 1)
    return ((values - values.mean()) / values.std())[None].astype(np.float32)


def described(image: np.ndarray, data: DataSettings) -> Described:
    numbers = features(image, data)
    return Described(numbers, (), (), changes(numbers))


def known(data: DataSettings, count: int = 60) -> TrainingImages:
    return fit_likeness([described(picture(i), data) for i in range(count)])


def found(image: np.ndarray, data: DataSettings = WHOLE) -> list[str]:
    return doubts(known(data), image, (), (), data)


def test_images_of_the_same_kind_pass():
    alarms = [bool(found(picture(seed))) for seed in range(1000, 1040)]
    assert np.mean(alarms) <= 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: -image, "inverted contrast"),
        (lambda image: image[:, ::-1], "upside down"),
        (lambda image: image[:, :, ::-1], "mirrored"),
        (lambda image: image.repeat(2, 1).repeat(2, 2)[:, :32, :32], "texture"),
        (lambda image: image + np.random.default_rng(0).normal(0, 1, image.shape), "texture"),
        (lambda image: ndimage.gaussian_filter(image, (0, 1, 1)), "sharpness"),
    ],
)
def test_changed_images_are_told_with_what_would_undo_the_change(change, words: str):
    for seed in range(1000, 1010):
        (message,) = found(change(picture(seed)))
        assert words in message


def test_pictures_seen_in_windows_have_no_layout():
    """Tissue may lie anywhere: its place is no feature, its contrast is."""
    assert list(features(picture(0), WHOLE)) == ["intensities", "texture", "layout"]
    assert list(features(picture(0), WINDOWS)) == ["intensities", "texture"]
    assert not found(picture(1001)[:, ::-1], WINDOWS)
    assert found(-picture(1001), WINDOWS)


def test_reversed_channels_are_told():
    def coloured(seed: int) -> np.ndarray:
        image = picture(seed)
        return np.concatenate([image, 0.5 * image + 1, -image])

    seen = fit_likeness([described(coloured(i), WHOLE) for i in range(60)])
    (message,) = doubts(seen, coloured(1000)[::-1], (), (), WHOLE)
    assert "channels in reverse order" in message


@pytest.mark.parametrize("shape", [(32, 36), (24, 24, 27)])
def test_features_of_a_changed_image_are_those_that_the_change_gives(shape: tuple[int, ...]):
    """The blocks divide these lengths."""
    data = WHOLE if len(shape) == 2 else DataSettings(spatial_dims=3, size=(8, 8, 8))
    image = np.random.default_rng(0).gamma(2, size=(3, *shape)) * np.arange(1, 4).reshape(
        3, *[1] * len(shape)
    )
    up, left = (1, 2) if len(shape) == 2 else (3, 1)
    by_hand = {
        "has inverted contrast (light for dark)": -image,
        "is upside down": np.flip(image, up),
        "is mirrored": np.flip(image, left),
        "has its channels in reverse order": image[::-1],
    }
    found = changes(features(image, data))
    assert list(found) == list(by_hand)
    for name, changed in by_hand.items():
        for aspect, numbers in features(changed, data).items():
            np.testing.assert_allclose(found[name][aspect], numbers, atol=1e-9)
    assert list(changes(features(image[:1], data))) == list(by_hand)[:3]
    assert "is mirrored" not in changes(features(image, WINDOWS)) or len(shape) == 3


def test_an_image_that_is_usual_but_nearer_after_a_change_is_told():
    """Colours differ so much that reversed ones are usual, yet each is nearer the right way."""

    channels = ((1.0, 0.6), (1.0, 0.0), (0.8, 0.0))

    def coloured(seed: int) -> np.ndarray:
        rng, image = np.random.default_rng(seed), picture(seed)
        return np.concatenate([scale * image + rng.normal(at, 0.3) for scale, at in channels])

    seen = fit_likeness([described(coloured(i), WINDOWS) for i in range(30)])
    told, wrong = [], []
    for seed in range(1000, 1040):
        told += doubts(seen, coloured(seed)[::-1], (), (), WINDOWS)
        wrong += doubts(seen, coloured(seed), (), (), WINDOWS)
    assert len(told) >= 36 and len(wrong) <= 2
    within = [message for message in told if message.startswith("perhaps")]
    assert within and all("channels in reverse order: without" in message for message in within)


def test_what_may_lie_either_way_is_not_told_as_mirrored():
    """The training says by how much a change brings images of this kind nearer."""

    def either(seed: int) -> np.ndarray:
        image = picture(seed)
        return image[:, :, ::-1] if seed % 2 else image

    seen = fit_likeness([described(either(i), WHOLE) for i in range(60)])
    alarms = [bool(doubts(seen, either(i), (), (), WHOLE)) for i in range(1000, 1040)]
    assert np.mean(alarms) <= 0.05


def test_texture_is_the_mean_square_of_differences():
    parabola = np.tile(np.arange(8.0) ** 2, (8, 1))[None]
    # Along the columns they are 1, 3, ..., 13 and then 2; along the rows 0. The least is 1e-8.
    expected = np.log10([np.mean(np.arange(1, 14, 2) ** 2) / 2, 4 / 2, 1e-8])
    np.testing.assert_allclose(features(parabola, WHOLE)["texture"], expected)


def test_blocks_are_means_in_the_order_of_the_axes():
    image = np.arange(64.0).reshape(1, 8, 8)
    expected = image[0].reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(features(image, WHOLE)["layout"], expected.ravel())


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3)])
def test_images_smaller_than_the_blocks_have_features(shape: tuple[int, ...]):
    data = DataSettings(spatial_dims=3, size=(8, 8, 8))
    numbers = features(np.ones((1, *shape)), data)
    assert all(np.isfinite(values).all() for values in numbers.values())


def test_sizes_follow_the_axes_of_the_body():
    """Voxels of 1 x 2 x 3 mm along superior, right (to the left) and anterior."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 1, -2, 3, 1
    lengths, spacing = sizes((10, 20, 30), affine)
    assert lengths == (40, 90, 10) and spacing == (2, 3, 1)
    assert sizes((10, 20), None) == ((), ()) and sizes((1, 2, 3), np.zeros((4, 4))) == ((), ())


def test_a_field_of_view_five_times_the_training_images_is_told():
    seen = TrainingImages(30, ((30, 40), (45, 60), (30, 40)), ((1, 1),) * 3)
    data, image = DataSettings(spatial_dims=3, size=(8, 8, 8)), np.zeros((1, 8, 8, 8))
    assert not doubts(seen, image, (36, 50, 35), (1, 1, 1), data)
    (message,) = doubts(seen, image, (180, 220, 180), (1, 1, 1), data)
    assert "field of view is 180 x 220 x 180 mm" in message and "45 to 60" in message
    (message,) = doubts(seen, image, (36, 50, 35), (1, 1, 5), data)
    assert "voxel size" in message
    assert not doubts(seen, image, (), (), data)


def test_a_header_holds_it_and_gives_it_back():
    seen = known(WHOLE)
    assert TrainingImages.of(json.loads(json.dumps(seen.to_dict()))) == seen
    texture = seen.to_dict()["aspects"]["texture"]
    for match, changed in (("square", {"mean": [0.0]}), ("usual", {"usual": 0.0})):
        with pytest.raises(ValueError, match=match):
            TrainingImages.of({**seen.to_dict(), "aspects": {"texture": {**texture, **changed}}})
    with pytest.raises(ValueError, match="limit"):
        TrainingImages.of({**seen.to_dict(), "limit": -1.0})


def test_headers_of_earlier_versions_have_sizes_only():
    """Their features were others: first one aspect of all, then another texture."""
    now = replace(known(WHOLE), lengths=((30, 40),) * 3).to_dict()
    first = {name: now[name] for name in ("count", "lengths", "spacing", "limit")}
    second = {name: value for name, value in now.items() if name != "nearer"}
    for old in (first | {"mean": [0.0], "precision": [[1.0]]}, second):
        seen = TrainingImages.of(old)
        assert seen.lengths == ((30, 40),) * 3 and not seen.aspects
        assert not doubts(seen, -picture(0), (), (), WHOLE)


def test_an_image_with_other_channels_is_told():
    (message,) = doubts(known(WHOLE), picture(0).repeat(2, 0), (), (), WHOLE)
    assert "another number of axes or channels" in message
