"""Rows of an image, kept in memory or on disk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import kept


@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    rest=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    count=st.integers(1, 9),
    height=st.integers(1, 9),
    on_disk=st.booleans(),
)
@settings(max_examples=40)
def test_rows_kept_in_memory_and_on_disk_are_the_array(
    tmp_path_factory: pytest.TempPathFactory,
    lead: list[int],
    rest: list[int],
    count: int,
    height: int,
    on_disk: bool,
):
    array = np.random.default_rng(0).normal(size=(*lead, count, *rest)).astype(np.float32)
    path = tmp_path_factory.mktemp("kept") / "rows" if on_disk else None
    rows = kept(array, len(lead), height, path)
    np.testing.assert_array_equal(rows.array(), array)
    np.testing.assert_array_equal(
        rows.rows(count // 2, count), np.take(array, range(count // 2, count), axis=len(lead))
    )
