"""From votes to a class, and how sure: the largest components, against MONAI's; temperatures,
against PyTorch's softmax.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import KeepLargestConnectedComponent

from cdal.inference.decision import decide, most_probable, spread, temper


@pytest.mark.parametrize("shape", [(40, 50), (12, 14, 16)])
@pytest.mark.parametrize("components", [1, 2, 5])
def test_the_largest_components_are_monais(
    shape: tuple[int, ...], components: int, rng: torch.Generator
):
    # Noise in blocks, so that there are components of many sizes, and two classes that touch.
    noise = torch.nn.functional.interpolate(
        torch.rand(1, 3, *(s // 2 for s in shape), generator=rng), shape
    )[0]
    noise[0] += 0.4  # mostly background, so that nothing spans the image
    probability = noise.softmax(dim=0).numpy()
    plain = probability.argmax(axis=0)
    mask = decide(probability, components)
    keep = KeepLargestConnectedComponent(
        [1, 2], is_onehot=False, independent=True, num_components=components
    )
    expected = keep(torch.from_numpy(plain.copy())[None])[0].numpy()
    # Of two components of one size either may stay: sizes are compared, and that each class stays
    # where it was.
    for k in (1, 2):
        assert (mask == k).sum() == (expected == k).sum()
        assert (plain[mask == k] == k).all()
    assert mask.dtype == np.uint8
    assert (mask != plain).any()
    np.testing.assert_array_equal(decide(probability), plain)


def test_components_touch_by_a_corner_and_each_class_has_its_own():
    mask = np.array(
        [
            [1, 0, 0, 0, 2],
            [0, 1, 0, 0, 2],
            [0, 1, 0, 2, 0],
            [0, 0, 0, 0, 0],
            [1, 1, 0, 0, 2],
        ]
    )
    probability = np.eye(3, dtype=np.float32)[mask].transpose(2, 0, 1)
    expected = mask.copy()
    expected[4] = 0
    np.testing.assert_array_equal(decide(probability, 1), expected)
    np.testing.assert_array_equal(decide(probability, 2), mask)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_a_temperature_divides_the_logits(temperature: float, rng: torch.Generator):
    logits = 2 * torch.randn(4, 9, 11, generator=rng)
    probability = logits.softmax(dim=0).numpy()
    found = temper(probability, temperature)
    np.testing.assert_allclose(found, (logits / temperature).softmax(dim=0).numpy(), atol=1e-4)
    np.testing.assert_array_equal(found.argmax(axis=0), probability.argmax(axis=0))
    assert found.dtype == np.float32


def test_what_is_wholly_sure_stays_a_probability():
    found = temper(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), 2.0)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)


@given(st.integers(1, 6), st.integers(0, 99))
def test_spread_for_two_classes_is_the_standard_deviation(votes: int, seed: int):
    p = np.random.default_rng(seed).random((votes, 4, 5))
    np.testing.assert_allclose(spread(np.stack([1 - p, p], axis=1)), p.std(axis=0), atol=1e-9)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_most_probable_class_is_the_first_of_the_largest(classes: int, seed: int):
    few = np.random.default_rng(seed).integers(0, 3, (classes, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(most_probable(few), few.argmax(axis=0))
