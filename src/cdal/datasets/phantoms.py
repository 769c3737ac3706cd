"""Phantoms: synthetic pictures with known masks and disagreeing annotators.

A phantom has one to three lesions. The border of a lesion is sharp on one side and blurred on
another; the width of the blur is visible in the picture. Each annotator draws the border at a
personal threshold. Annotators therefore agree on sharp borders. On blurred borders, generous
annotators draw further outside than strict ones. The disagreement to predict is thus known, and it
can be inferred from the picture.
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
"""Folder of the true masks, next to `images` and `labels`."""


@dataclass(frozen=True)
class Phantom:
    """A synthetic picture with its masks.

    Attributes:
        image: gray picture, `[H, W]` uint8.
        mask: true lesions, `[H, W]` uint8.
        raters: masks of the annotators, `[R, H, W]` uint8.
    """

    image: np.ndarray
    mask: np.ndarray
    raters: np.ndarray


def make_phantom(rng: np.random.Generator, size: int = 64, raters: int = 6) -> Phantom:
    """Draw one phantom.

    Args:
        rng: random generator for all draws.
        size: height and width in pixels.
        raters: number of annotators.
    """
    rows, columns = np.mgrid[:size, :size].astype(float)
    membership = np.zeros((size, size))
    for _ in range(rng.integers(1, 4)):
        membership = np.maximum(membership, _lesion(rng, rows, columns, size))
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size)), 4)
    texture *= 0.08 / texture.std()
    contrast = rng.uniform(0.45, 0.75) * rng.choice([-1, 1])
    pixels = (
        0.5 + contrast * (membership - 0.5) + texture + 0.04 * rng.standard_normal((size, size))
    )
    levels = rng.uniform(0.1, 0.9, raters)
    evidence = special.logit(membership)
    masks = [evidence + _wobble(rng, size) > special.logit(level) for level in levels]
    return Phantom(
        np.clip(255 * pixels, 0, 255).astype(np.uint8),
        (membership > 0.5).astype(np.uint8),
        np.stack(masks).astype(np.uint8),
    )


def write_phantoms(
    target: Path, count: int, seed: int = 0, size: int = 64, raters: int = 6
) -> Path:
    """Write a data folder of phantoms.

    The folder has `images`, `labels` (`NAME_rater0` and so on), and `truth`, which is not used in
    training.

    Args:
        target: path of the folder.
        count: number of phantoms.
        seed: random seed; phantom i depends on (seed, i) only.
        size: height and width in pixels.
        raters: number of annotators.

    Returns:
        The path of the folder.
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


def _lesion(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, size: int
) -> np.ndarray:
    """Draw a lesion with a star-shaped outline whose blur varies with the direction.

    Returns:
        The degree to which each pixel belongs to the lesion, from 0 to 1.
    """
    centre = rng.uniform(0.25 * size, 0.75 * size, 2)
    y, x = rows - centre[0], columns - centre[1]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    outline = rng.uniform(0.1, 0.22) * size * (1 + _harmonics(rng, angle, 0.12))
    blur = size / 64 * (0.4 + 3.2 * (0.5 + 0.5 * np.cos(angle - rng.uniform(0, 2 * np.pi))) ** 2)
    return special.expit(np.clip((outline - radius) / blur, -30, 30))


def _harmonics(rng: np.random.Generator, angle: np.ndarray, strength: float) -> np.ndarray:
    """Return a smooth random function of the direction."""
    waves = [
        rng.normal(0, strength / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        for k in range(2, 5)
    ]
    return np.sum(waves, axis=0)


def _wobble(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a smooth random field in log odds that imitates an annotator's imprecise drawing."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), 5)
    return 0.3 * field / field.std()
