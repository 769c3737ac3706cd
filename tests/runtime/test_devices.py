"""Devices by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cdal.runtime.errors import UserError
from cdal.training.train import train
from helpers.recipes import small_recipe


@pytest.mark.parametrize(("device", "message"), [("tpu", "no device"), ("cuda", "no cuda device")])
def test_a_device_that_is_not_there_is_refused(
    device: str, message: str, phantoms: Path, tmp_path: Path
):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match=message):
        train(small_recipe(), phantoms, tmp_path / "run", device)
