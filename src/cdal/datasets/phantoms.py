"""Phantoms: pictures whose true masks are known, and whose annotators disagree where the borders are blurred.

A phantom holds one to three lesions. Each border is sharp on one side and blurred on another; the width of the blur is visible in
the picture. An annotator sees the border at a level of his own: where it is sharp all agree, where it is blurred the generous
draws further out than the strict. So the disagreement to be predicted is known, and can be read from the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage, special

from cdal.imaging.formats import picture, write_label
from cdal.imaging.image import Image
from cdal.runtime.files import write_json

CLASSES = ("background", "lesion")
TRUTH = "truth"
"""The folder of the true masks, beside `images` and `labels`."""


@dataclass(frozen=True)
class Phantom:
    """One picture.

    Attributes:
        image: `[H, W]` uint8.
        mask: `[H, W]` uint8, the true lesions.
        raters: `[R, H, W]` uint8, the annotators' masks.
    """

    image: np.ndarray
    mask: np.ndarray
    raters: np.ndarray


def make_phantom(rng: np.random.Generator, size: int = 64, raters: int = 6) -> Phantom:
    """Draw one phantom.

    Args:
        rng: the source of every draw.
        size: pixels along each side.
        raters: annotators.
    """
    rows, columns = np.mgrid[:size, :size].astype(float)
    membership = np.zeros((size, size))
    for _ in range(rng.integers(1, 4)):
        membership = np.maximum(membership, _lesion(rng, rows, columns, size))
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size)), 4)
    texture *= 0.08 / texture.std()
    contrast = rng.uniform(0.45, 0.75) * rng.choice([-1, 1])
    picture = 0.5 + contrast * (membership - 0.5) + texture + 0.04 * rng.standard_normal((size, size))
    levels = rng.uniform(0.1, 0.9, raters)
    evidence = special.logit(membership)
    masks = [evidence + _wobble(rng, size) > special.logit(level) for level in levels]
    return Phantom(
        np.clip(255 * picture, 0, 255).astype(np.uint8),
        (membership > 0.5).astype(np.uint8),
        np.stack(masks).astype(np.uint8),
    )


def write_phantoms(target: Path, count: int, seed: int = 0, size: int = 64, raters: int = 6) -> Path:
    """Write a data folder of phantoms: `images`, `labels` (`NAME_rater0` and on), and the `truth` that no training sees.

    Args:
        target: the folder.
        count: of phantoms.
        seed: phantom i is a function of (seed, i).
        size: pixels along each side.
        raters: annotators.

    Returns:
        The folder.
    """
    for i in range(count):
        phantom = make_phantom(np.random.default_rng((seed, i)), size, raters)
        name = f"phantom_{i:04d}"
        like = Image(phantom.image[None].astype(np.float32), suffix=".png")
        picture.write(target / "images" / f"{name}.png", phantom.image, like, labels=False)
        write_label(target / TRUTH / name, phantom.mask, like)
        for r, mask in enumerate(phantom.raters):
            write_label(target / "labels" / f"{name}_rater{r}", mask, like)
    declared = {"name": "phantoms", "labels": {str(k): name for k, name in enumerate(CLASSES)}}
    write_json(target / "dataset.json", declared)
    return target


def _lesion(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """How much each pixel belongs to a lesion, from 0 to 1: a star-shaped outline whose blur varies with the direction."""
    centre = rng.uniform(0.25 * size, 0.75 * size, 2)
    y, x = rows - centre[0], columns - centre[1]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    outline = rng.uniform(0.1, 0.22) * size * (1 + _harmonics(rng, angle, 0.12))
    blur = size / 64 * (0.4 + 3.2 * (0.5 + 0.5 * np.cos(angle - rng.uniform(0, 2 * np.pi))) ** 2)
    return special.expit(np.clip((outline - radius) / blur, -30, 30))


def _harmonics(rng: np.random.Generator, angle: np.ndarray, strength: float) -> np.ndarray:
    """A smooth random function of the direction."""
    waves = [rng.normal(0, strength / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 5)]
    return np.sum(waves, axis=0)


def _wobble(rng: np.random.Generator, size: int) -> np.ndarray:
    """An annotator's unsteady hand: a smooth random field, in units of log odds."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), 5)
    return 0.3 * field / field.std()
