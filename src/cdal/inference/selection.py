"""The order in which images are chosen: the highest score first, patients and near copies apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pick:
    """An image that was chosen.

    Attributes:
        index: its position among the images.
        score: its score when it was chosen.
        nearest: position of the image chosen before it that is most like it; `None` for the first
            image, or without places.
        likeness: how much the two are alike, from 0 to 1.
    """

    index: int
    score: float
    nearest: int | None = None
    likeness: float = 0.0


def select(
    scores: np.ndarray, patients: Sequence[str], count: int, places: np.ndarray | None = None
) -> list[Pick]:
    """Choose images one after the other, the highest score first.

    With places, a score counts for 1 - l of itself, where l = exp(-d^2 / D) is the likeness to the
    most similar image chosen before: d is their distance, and D the mean d^2 of all pairs. This is
    k-centre selection (Sener & Savarese, ICLR 2018), weighted by the score.

    A patient gets a second image after every patient has had one, and so on. Of equal images the
    first is chosen.

    Args:
        scores: score of each image, `[N]`; not negative if there are places.
        patients: patient of each image.
        count: number of images to choose; all if there are fewer.
        places: place of each image, `[N, F]`; see `cdal.inference.features.together`.
    """
    scores = np.asarray(scores, np.float64)
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    patient = np.array([numbers[name] for name in patients], int)
    taken = np.zeros(len(numbers), int)  # images chosen of each patient
    left = np.ones(len(scores), bool)
    closest, nearest = np.zeros(len(scores)), np.full(len(scores), -1)
    picks: list[Pick] = []
    while left.any() and len(picks) < count:
        turn = taken[patient]
        allowed = np.flatnonzero(left & (turn == turn[left].min()))
        gains = scores[allowed] * (1 - closest[allowed])
        # By the gain, then the score, then the position.
        best = int(allowed[np.lexsort((allowed, -scores[allowed], -gains))[0]])
        known = int(nearest[best]) if nearest[best] >= 0 else None
        gain = float(scores[best] * (1 - closest[best]))
        picks.append(Pick(best, gain, known, float(closest[best])))
        left[best] = False
        taken[patient[best]] += 1
        if places is not None:
            alike = _likeness(places, best)
            nearer = (alike > closest) | (nearest < 0)
            closest[nearer], nearest[nearer] = alike[nearer], best
    return picks


def _likeness(places: np.ndarray, index: int) -> np.ndarray:
    """Likeness of each image to one of them, `[N, F] -> [N]`."""
    count = max(2, len(places))
    # The mean over the pairs of different images, from the variance.
    mean = 2 * float(places.var(axis=0).sum()) * count / (count - 1)
    squared = ((places - places[index]) ** 2).sum(axis=1)
    return np.exp(-squared / mean) if mean > 0 else np.ones(len(places))
