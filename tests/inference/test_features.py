"""Numbers of an image: by NumPy; near copies lie close together, other images do not."""

from __future__ import annotations

import numpy as np
import pytest

from cdal.inference.features import image_features, together


def numbers(image: np.ndarray) -> tuple[np.ndarray, ...]:
    return image_features(lambda start, stop: image[:, start:stop], image.shape[1:])


@pytest.mark.parametrize("shape", [(2, 40, 56), (1, 16, 24, 20)])
def test_means_deviations_and_deciles_are_numpys(shape: tuple[int, ...]):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    means, deviations, deciles = numbers(image)
    cells = 8 if len(shape) == 3 else 4
    parts = image.reshape(shape[0], *[n for length in shape[1:] for n in (cells, length // cells)])
    inner = tuple(range(2, parts.ndim, 2))
    np.testing.assert_allclose(
        means.reshape(-1, shape[0]).T, parts.mean(axis=inner).reshape(shape[0], -1), atol=1e-6
    )
    np.testing.assert_allclose(
        deviations.reshape(-1, shape[0]).T, parts.std(axis=inner).reshape(shape[0], -1), atol=1e-6
    )
    expected = np.quantile(image.reshape(shape[0], -1), np.arange(1, 10) / 10, axis=1)
    np.testing.assert_allclose(deciles, expected.ravel(), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 5), (1, 5000, 9), (3, 2, 90, 1)])
def test_images_of_any_size_have_as_many_numbers(shape: tuple[int, ...]):
    found = numbers(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert [len(kind) for kind in found] == [64 * shape[0], 64 * shape[0], 9 * shape[0]]
    assert np.isfinite(np.concatenate(found)).all()


def test_in_one_space_every_kind_counts_as_much():
    rng = np.random.default_rng(0)
    images = [(rng.normal(size=5), 1000 * rng.normal(size=50), np.ones(3)) for _ in range(40)]
    places = together(images)
    assert places.shape == (40, 58)
    squared = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    assert squared.mean() == pytest.approx(4)  # two kinds differ
    assert ((places[:, None, :5] - places[None, :, :5]) ** 2).sum(axis=-1).mean() == pytest.approx(
        2
    )


def test_a_near_copy_is_closest_to_its_original():
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(1, 64, 64)).cumsum(axis=1).cumsum(axis=2) for _ in range(12)]
    images = [(image - image.mean()) / image.std() for image in images]
    copies = [image + 0.1 * rng.normal(size=image.shape) for image in images]
    places = together([numbers(image) for image in (*images, *copies)])
    apart = np.linalg.norm(places[:12, None] - places[None, 12:], axis=-1)
    assert (apart.argmin(axis=1) == np.arange(12)).all()
