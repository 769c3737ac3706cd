"""Several results in one file are read back as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.imaging.formats import write_label, write_values
from cdal.imaging.image import Image
from cdal.serve.stacks import read_stack


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_stack_of_a_picture_comes_back(suffix: str, count: int, tmp_path: Path):
    values = np.random.default_rng(0).random((count, 5, 7)).astype(np.float32)
    like = Image(np.zeros((1, 5, 7), np.float32), suffix=suffix)
    back = read_stack(write_values(tmp_path / "v", values, like), count, (5, 7), labels=False)
    np.testing.assert_allclose(back, values, atol=1e-4)
    votes = (values > 0.5).astype(np.uint8)
    back = read_stack(write_label(tmp_path / "m", votes, like), count, (5, 7), labels=True)
    np.testing.assert_array_equal(back, votes)
