"""cDAL: medical image segmentation by few-step diffusion that shows where it is unsure.

    import cdal
    prediction = cdal.load("hippocampus").predict("volume.nii.gz")
    prediction.mask, prediction.uncertainty

Names are imported when they are first used, so `import cdal` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cdal.runtime.version import __version__

if TYPE_CHECKING:
    from cdal.datasets.check import check_folder as check
    from cdal.evaluation.evaluate import evaluate
    from cdal.inference.load import load
    from cdal.inference.predict import predict
    from cdal.inference.predictor import Prediction, Predictor
    from cdal.inference.ranking import rank
    from cdal.inference.sampling import Sampling
    from cdal.inference.sharing.network import BundleNetwork
    from cdal.recipes.recipe import Recipe
    from cdal.runtime.errors import UserError
    from cdal.runtime.events import Event
    from cdal.runtime.memory import keep_freed_memory
    from cdal.segmenters.ensemble import ensemble
    from cdal.segmenters.segmenter import Segmenter
    from cdal.segmenters.trust import trust_own_network
    from cdal.training.train import train

_HOME = {
    "BundleNetwork": "cdal.inference.sharing.network",
    "Event": "cdal.runtime.events",
    "Prediction": "cdal.inference.predictor",
    "Predictor": "cdal.inference.predictor",
    "Recipe": "cdal.recipes.recipe",
    "Sampling": "cdal.inference.sampling",
    "Segmenter": "cdal.segmenters.segmenter",
    "UserError": "cdal.runtime.errors",
    "check": "cdal.datasets.check:check_folder",
    "ensemble": "cdal.segmenters.ensemble",
    "evaluate": "cdal.evaluation.evaluate",
    "keep_freed_memory": "cdal.runtime.memory",
    "load": "cdal.inference.load",
    "predict": "cdal.inference.predict",
    "rank": "cdal.inference.ranking",
    "train": "cdal.training.train",
    "trust_own_network": "cdal.segmenters.trust",
}

__all__ = [
    "BundleNetwork",
    "Event",
    "Prediction",
    "Predictor",
    "Recipe",
    "Sampling",
    "Segmenter",
    "UserError",
    "__version__",
    "check",
    "ensemble",
    "evaluate",
    "keep_freed_memory",
    "load",
    "predict",
    "rank",
    "train",
    "trust_own_network",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cdal' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value
