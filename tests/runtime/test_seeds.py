"""Random generators by keys."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdal.runtime.errors import UserError
from cdal.runtime.seeds import generator, seed_sequence

KEYS = st.lists(st.one_of(st.integers(0, 2**40), st.text(max_size=8)), min_size=1, max_size=4)


def draws(*keys: int | str) -> list[float]:
    return torch.rand(4, generator=generator(*keys)).tolist()


@given(KEYS)
def test_the_same_keys_give_the_same_draws(keys: list[int | str]):
    assert draws(*keys) == draws(*keys)
    first, second = (np.random.default_rng(seed_sequence(*keys)).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "keys",
    [
        [(0,), (1,), (2**33,), (2**33 + 1,)],
        [(0, 0), (0, 1), (1, 0), (1, 1), (0, "case"), (0, "cas"), ("case", 0)],
        [(0, "turns", 0), (0, "turns", 1), (1, "turns", 0), (0, "batch", 0), (0, 0, "turns")],
    ],
)
def test_other_keys_give_other_draws(keys: list[tuple[int | str, ...]]):
    """The seed, the step, the case's name and the order of the keys all count."""
    for first, second in itertools.combinations(keys, 2):
        assert draws(*first) != draws(*second)


def test_draws_are_uniform_over_many_steps():
    """The first numbers of a thousand seeds are no more alike than those of one seed."""
    first = np.array([draws(0, step)[0] for step in range(1000)])
    assert abs(first.mean() - 0.5) < 0.03
    assert np.histogram(first, 10, (0, 1))[0] == pytest.approx(np.full(10, 100), abs=40)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.1


def test_a_name_that_is_no_text_is_a_key_too():
    """File names on Linux are bytes, which need not be UTF-8."""
    name = os.fsdecode(b"scan\xff")
    assert draws(0, name) == draws(0, name) != draws(0, "scan")


@pytest.mark.parametrize("make", [seed_sequence, generator])
def test_a_negative_seed_is_refused(make):
    with pytest.raises(UserError, match="a seed must be 0 or more; it is -3"):
        make(-3, "case")
