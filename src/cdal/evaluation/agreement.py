"""Agreement of a model's votes with several annotators of one image.

The functions take NumPy arrays and return numbers; they need no network. V votes and R annotators
are class masks `[V, *S]` and `[R, *S]`. K is the number of classes, background included.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage, optimize

from cdal.evaluation.metrics import nan_mean, rank_correlation
from cdal.inference.decision import spread

AGREEMENT = {
    "ged": "GED",
    "ged_deterministic": "GED without diffusion",
    "matched_iou": "HM-IoU",
    "diversity_agreement": "diversity agreement",
    "empty_votes": "empty votes",
    "empty_annotators": "empty annotators",
    "rank_correlation": "rank correlation with disagreement",
}
"""Measures of agreement with several annotators with their headings, in the order of columns."""


def agreement(votes: np.ndarray, raters: np.ndarray, classes: int) -> dict[str, float]:
    """All measures that compare the set of votes with the set of annotators.

    Returns:
        `ged` (see `generalised_energy_distance`), `matched_iou` and `diversity_agreement` (see the
        functions of these names), `empty_votes` and `empty_annotators` (see `empty_shares`).
    """
    between = distances(votes, raters, classes)
    within_votes, within_raters = (
        distances(votes, votes, classes),
        distances(raters, raters, classes),
    )
    return {
        "ged": 2 * float(between.mean()) - float(within_votes.mean()) - float(within_raters.mean()),
        "matched_iou": _matched(1 - between),
        "diversity_agreement": _diversity_agreement(within_votes, within_raters),
        **empty_shares(votes, raters, classes),
    }


def distances(first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """Pairwise distances 1 - IoU between two sets of masks, `[A, *S], [B, *S] -> [A, B]`.

    The IoU is averaged over the foreground classes. Two empty masks have distance 0.
    """
    return 1 - np.mean([_iou(first == k, second == k) for k in range(1, classes)], axis=0)


def generalised_energy_distance(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Squared generalised energy distance between votes and annotators.

    2 E d(vote, rater) - E d(vote, vote') - E d(rater, rater') with d as in `distances`
    (Székely & Rizzo; Kohl et al., NeurIPS 2018). Each expectation is over all ordered pairs,
    including the pairs of a mask with itself. 0 is perfect.
    """
    return agreement(votes, raters, classes)["ged"]


def matched_iou(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Mean IoU of the best one-to-one match of votes to annotators.

    This is the "Hungarian-matched IoU" of Kohl et al., 2019. If the numbers of votes and annotators
    differ, both sets are first repeated to a common number. 1 is perfect.
    """
    return agreement(votes, raters, classes)["matched_iou"]


def diversity_agreement(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Whether votes differ as much as annotators do (Rahman et al., CVPR 2023), between 0 and 1.

    Take the smallest and the largest distance between two different members of each set. The result
    is 1 minus the mean absolute difference of these two numbers between votes and annotators. The
    distances within a set of one mask count as 0.
    """
    return agreement(votes, raters, classes)["diversity_agreement"]


def empty_shares(votes: np.ndarray, raters: np.ndarray, classes: int) -> dict[str, float]:
    """Shares of empty masks where annotators do not agree whether there is anything.

    Only the foreground classes count that some annotators, but not all, left empty.

    Returns:
        `empty_votes` and `empty_annotators`: shares of the votes and of the annotators that are
        empty, averaged over these classes; NaN if there are none.
    """

    def share(masks: np.ndarray) -> np.ndarray:
        drawn = [(masks == k).reshape(len(masks), -1).any(axis=1) for k in range(1, classes)]
        return 1 - np.mean(drawn, axis=1)

    by_class = {"empty_votes": share(votes), "empty_annotators": share(raters)}
    disputed = (by_class["empty_annotators"] > 0) & (by_class["empty_annotators"] < 1)
    return {name: nan_mean(shares[disputed]) for name, shares in by_class.items()}


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pairwise IoU of two sets of masks, `[A, *S], [B, *S] -> [A, B]`; 1 for two empty masks."""
    a, b = (masks.reshape(len(masks), -1).astype(float) for masks in (first, second))
    intersection = a @ b.T
    union = a.sum(axis=1)[:, None] + b.sum(axis=1) - intersection
    return np.divide(intersection, union, out=np.ones_like(intersection), where=union > 0)


def _matched(iou: np.ndarray) -> float:
    common = math.lcm(*iou.shape)
    repeated = iou.repeat(common // iou.shape[0], axis=0).repeat(common // iou.shape[1], axis=1)
    return float(repeated[optimize.linear_sum_assignment(repeated, maximize=True)].mean())


def _diversity_agreement(votes: np.ndarray, raters: np.ndarray) -> float:
    def extremes(within: np.ndarray) -> np.ndarray:
        pairs = within[np.triu_indices(len(within), 1)]
        return np.array([pairs.min(), pairs.max()]) if len(pairs) else np.zeros(2)

    return float(1 - np.abs(extremes(votes) - extremes(raters)).mean())


def disagreement(raters: np.ndarray, classes: int) -> np.ndarray:
    """Spread of the annotators, `[R, *S] -> [*S]`; `spread` computes the same for the votes."""
    return spread(np.stack([raters == k for k in range(classes)], axis=1).astype(float))


def border(raters: np.ndarray, width: int = 3) -> np.ndarray:
    """Pixels where annotators may disagree, `[R, *S] -> [*S]` (boolean).

    These are the pixels within `width` of the border of any annotator's foreground.
    """
    near = np.zeros(raters.shape[1:], bool)
    for mask in raters > 0:
        near |= ndimage.binary_dilation(mask, iterations=width) & ~ndimage.binary_erosion(
            mask, iterations=width, border_value=1
        )
    return near


def disagreement_correlation(uncertainty: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Rank correlation of the spread of the votes with the spread of the annotators.

    It is Spearman's correlation, computed over the border pixels (see `border`).

    Args:
        uncertainty: spread of the votes, `[*S]`, see `spread`.
        raters: class masks of the annotators, `[R, *S]`.
        classes: number of classes K, background included.

    Returns:
        The correlation; NaN if either spread is the same at every border pixel.
    """
    pixels = border(raters)
    return rank_correlation(uncertainty[pixels], disagreement(raters, classes)[pixels])


def majority(raters: np.ndarray, classes: int) -> np.ndarray:
    """The class that most annotators chose, `[R, *S] -> [*S]`; in a tie, the lowest class."""
    return np.stack([(raters == k).sum(axis=0) for k in range(classes)]).argmax(axis=0)
