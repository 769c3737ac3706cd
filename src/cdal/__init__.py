"""cDAL: learn to segment medical images with a few-step conditional diffusion model, and say how sure it is.

    import cdal
    prediction = cdal.load("hippocampus").predict("volume.nii.gz")
    prediction.mask, prediction.uncertainty

Names are imported when they are first used, so `import cdal` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cdal.data.check import check_folder as check
    from cdal.errors import UserError
    from cdal.evaluation import evaluate
    from cdal.prediction import predict
    from cdal.predictor import Prediction, Predictor, load
    from cdal.recipe import Recipe
    from cdal.training import train

_HOME = {
    "check": "cdal.data.check:check_folder",
    "Prediction": "cdal.predictor",
    "Predictor": "cdal.predictor",
    "Recipe": "cdal.recipe",
    "UserError": "cdal.errors",
    "evaluate": "cdal.evaluation",
    "load": "cdal.predictor",
    "predict": "cdal.prediction",
    "train": "cdal.training",
}

__all__ = ["Prediction", "Predictor", "Recipe", "UserError", "__version__", "check", "evaluate", "load", "predict", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cdal' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value
