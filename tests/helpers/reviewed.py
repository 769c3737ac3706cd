"""Results that somebody has reviewed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from cdal.datasets.phantoms import TRUTH
from cdal.datasets.reviews import REVIEWED, keep_review
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling


def predicted(model: Path, phantoms: Path, out: Path, count: int | None = None) -> Path:
    """Results of a model on the images of a folder of phantoms."""
    images = sorted((phantoms / "images").glob("*.png"))[:count]
    predict(model, images, out, Sampling(votes=1))
    return out


def review(results: Path, phantoms: Path, verdicts: Mapping[str, str]) -> Path:
    """Review cases, `{"phantom_0000": "fix"}`; the truth is the corrected mask."""
    for name, verdict in verdicts.items():
        file = f"{name}.png"
        if verdict == "fix":
            (results / REVIEWED).mkdir(exist_ok=True)
            shutil.copy(phantoms / TRUTH / file, results / REVIEWED / file)
        source = phantoms / "images" / file
        keep_review(results, file, str(source), verdict, f"{name}_mask.png")
    return results


def all_fixed(results: Path, phantoms: Path, numbers: Sequence[int]) -> Path:
    """Correct the phantoms with these numbers."""
    return review(results, phantoms, {f"phantom_{i:04d}": "fix" for i in numbers})
