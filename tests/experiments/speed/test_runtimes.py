"""Exported graphs beside PyTorch."""

from __future__ import annotations

import pytest

from cdal.experiments.speed.runtimes import runtimes
from cdal.runtime.errors import UserError


def test_exported_graphs_are_measured_on_volumes_alone():
    with pytest.raises(UserError, match=r"on a volume; cxr\.safetensors segments pictures"):
        runtimes("cxr", 1)
