"""cDAL: learn to segment medical images with a few-step conditional diffusion model, and say how sure it is.

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
    from cdal.recipes.recipe import Recipe
    from cdal.runtime.errors import UserError
    from cdal.training.train import train

_HOME = {
    "check": "cdal.datasets.check:check_folder",
    "Prediction": "cdal.inference.predictor",
    "Predictor": "cdal.inference.predictor",
    "Recipe": "cdal.recipes.recipe",
    "UserError": "cdal.runtime.errors",
    "evaluate": "cdal.evaluation.evaluate",
    "load": "cdal.inference.load",
    "predict": "cdal.inference.predict",
    "train": "cdal.training.train",
}

__all__ = ["Prediction", "Predictor", "Recipe", "UserError", "__version__", "check", "evaluate", "load", "predict", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cdal' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value
