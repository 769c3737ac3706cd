"""How well votes stand for several annotators of one image. Plain arrays in, plain numbers out; nothing here knows a network.

V votes and R annotators are masks `[V, *S]` and `[R, *S]` of classes; K is the number of classes with the background.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage, optimize

from cdal.evaluation.metrics import rank_correlation
from cdal.inference.decision import spread


def agreement(votes: np.ndarray, raters: np.ndarray, classes: int) -> dict[str, float]:
    """Every measure of the votes as a set against the annotators as a set.

    Returns:
        `ged`, `matched_iou` and `diversity_agreement`, see the functions of these names.
    """
    between = distances(votes, raters, classes)
    within_votes, within_raters = distances(votes, votes, classes), distances(raters, raters, classes)
    return {
        "ged": 2 * float(between.mean()) - float(within_votes.mean()) - float(within_raters.mean()),
        "matched_iou": _matched(1 - between),
        "diversity_agreement": _diversity_agreement(within_votes, within_raters),
    }


def distances(first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """1 - IoU of every mask of the first set with every one of the second, mean over the foreground classes, `[A, B]`.

    Two empty masks are at distance 0.
    """
    return 1 - np.mean([_iou(first == k, second == k) for k in range(1, classes)], axis=0)


def generalised_energy_distance(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Squared generalised energy distance between votes and annotators (Székely & Rizzo; Kohl et al., NeurIPS 2018).

    2 E d(vote, rater) - E d(vote, vote') - E d(rater, rater') with d as in `distances`, each of the expectations over all ordered
    pairs, a mask with itself included. 0 is perfect.
    """
    return agreement(votes, raters, classes)["ged"]


def matched_iou(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Mean IoU of the best one-to-one match of votes to annotators (Kohl et al., 2019, "Hungarian-matched IoU").

    Votes and annotators are repeated to a common number first. 1 is perfect.
    """
    return agreement(votes, raters, classes)["matched_iou"]


def diversity_agreement(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Whether votes differ as much as annotators do (Rahman et al., CVPR 2023), between 0 and 1.

    1 less the mean of two differences between votes and annotators: of the largest distance within each set, and of the smallest
    between two different members. A set of one has no distance.
    """
    return agreement(votes, raters, classes)["diversity_agreement"]


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of every mask of the first set with every one of the second, `[A, *S], [B, *S] -> [A, B]`; of two empty ones 1."""
    a, b = (masks.reshape(len(masks), -1).astype(float) for masks in (first, second))
    both = a @ b.T
    either = a.sum(axis=1)[:, None] + b.sum(axis=1) - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def _matched(iou: np.ndarray) -> float:
    both = math.lcm(*iou.shape)
    repeated = iou.repeat(both // iou.shape[0], axis=0).repeat(both // iou.shape[1], axis=1)
    return float(repeated[optimize.linear_sum_assignment(repeated, maximize=True)].mean())


def _diversity_agreement(votes: np.ndarray, raters: np.ndarray) -> float:
    def ends(within: np.ndarray) -> np.ndarray:
        pairs = within[np.triu_indices(len(within), 1)]
        return np.array([pairs.min(), pairs.max()]) if len(pairs) else np.zeros(2)

    return float(1 - np.abs(ends(votes) - ends(raters)).mean())


def disagreement(raters: np.ndarray, classes: int) -> np.ndarray:
    """The annotators' spread, as `spread` is that of the votes, `[R, *S]` of classes `-> [*S]`."""
    return spread(np.stack([raters == k for k in range(classes)], axis=1).astype(float))


def border(raters: np.ndarray, width: int = 3) -> np.ndarray:
    """Where annotators may disagree: pixels within `width` of the border of any annotator's foreground, `[R, *S] -> [*S]` bool."""
    near = np.zeros(raters.shape[1:], bool)
    for mask in raters > 0:
        near |= ndimage.binary_dilation(mask, iterations=width) & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)
    return near


def disagreement_correlation(uncertainty: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Spearman's rank correlation, over the border pixels, of the votes' spread with the annotators' spread.

    Args:
        uncertainty: `[*S]`, see `spread`.
        raters: `[R, *S]` of classes.
        classes: K, with the background.

    Returns:
        NaN where either is the same at every border pixel.
    """
    where = border(raters)
    return rank_correlation(uncertainty[where], disagreement(raters, classes)[where])


def majority(raters: np.ndarray, classes: int) -> np.ndarray:
    """The class that most annotators chose, `[R, *S] -> [*S]`; the lower one where two are equal."""
    return np.stack([(raters == k).sum(axis=0) for k in range(classes)]).argmax(axis=0)
