"""The mask with the highest expected Dice, against all thresholds tried one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.inference.ballot import Ballot
from cdal.inference.decision import decide, temper
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from helpers.files import picture


def votes_of(seed: int, classes: int, shift: float) -> np.ndarray:
    """Votes `[9, K, 20, 15]` that agree in part; some of them may be empty."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(1, classes, 20, 15)), rng.normal(size=(9, classes, 20, 15))
    logits = 2 * common + 1.5 * own
    logits[:, 0] += shift + 4 * (rng.random((9, 1, 1)) < 0.3)
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0


def ballot_of(votes: np.ndarray, rows: int = 20) -> Ballot:
    ballot = Ballot(votes.shape[1], len(votes))
    for top in range(0, votes.shape[2], rows):
        ballot.see(votes[:, :, top : top + rows])
    return ballot


@pytest.mark.parametrize("shift", [0.0, 2.0, 3.5, 6.0])
@pytest.mark.parametrize("rows", [7, 20])
def test_of_two_classes_no_threshold_is_better(shift: float, rows: int):
    votes = votes_of(1, 2, shift)
    p = votes.mean(axis=0)
    masks = votes.argmax(axis=1) == 1
    chosen = decide(p, 0, ballot_of(votes, rows).weights(1.0)) == 1
    tried = [*np.quantile(p[1], np.linspace(0, 1, 60)), 2.0]
    best = max(np.mean([dice(p[1] >= t, vote) for vote in masks]) for t in tried)
    ours = np.mean([dice(chosen, vote) for vote in masks])
    assert ours >= best - 0.01
    assert ours >= np.mean([dice(p.argmax(axis=0) == 1, vote) for vote in masks]) - 1e-6


def test_votes_that_are_mostly_empty_choose_the_empty_mask():
    votes = np.zeros((5, 2, 4, 4), np.float32)
    votes[:, 0] = 1
    votes[:2, 0, 1:3, 1:3], votes[:2, 1, 1:3, 1:3] = 0, 1
    assert not decide(votes.mean(axis=0), 0, ballot_of(votes).weights(1.0)).any()
    votes[2, 0, 1:3, 1:3], votes[2, 1, 1:3, 1:3] = 0, 1
    assert decide(votes.mean(axis=0), 0, ballot_of(votes).weights(1.0)).sum() == 4


def test_a_minority_of_each_voxel_can_win_where_votes_lie_apart():
    """Each vote has the square at another place; no voxel has a majority, but some mask is better
    than none.
    """
    votes = np.zeros((4, 2, 8, 8), np.float32)
    votes[:, 0] = 1
    for v in range(4):
        box = (slice(2, 6), slice(v, v + 4))
        votes[(v, 0, *box)], votes[(v, 1, *box)] = 0, 1
    p = votes.mean(axis=0)
    chosen = decide(p, 0, ballot_of(votes).weights(1.0))
    masks = votes.argmax(axis=1) == 1
    by_hand = {t: np.mean([dice(p[1] >= t, vote) for vote in masks]) for t in (0.25, 0.5, 0.75, 1)}
    best = max(by_hand, key=by_hand.get)
    assert best < 0.75
    np.testing.assert_array_equal(chosen == 1, p[1] >= best)


def test_the_temperature_does_not_change_the_mask():
    votes = votes_of(3, 2, 2.0)
    p, ballot = votes.mean(axis=0), ballot_of(votes)
    expected = decide(p, 0, ballot.weights(1.0))
    np.testing.assert_array_equal(decide(temper(p, 1.7), 0, ballot.weights(1.7)), expected)


def test_several_classes_are_no_worse_than_the_largest_probability():
    votes = votes_of(4, 4, 2.0)
    p, weights = votes.mean(axis=0), ballot_of(votes).weights(1.0)
    masks = votes.argmax(axis=1)

    def expected(mask: np.ndarray) -> float:
        return np.mean([[dice(mask == k, vote == k) for k in (1, 2, 3)] for vote in masks])

    assert weights[0] == 1
    assert expected(decide(p, 0, weights)) >= expected(decide(p)) - 1e-6


def test_one_vote_is_taken_as_it_is():
    votes = votes_of(5, 3, 1.0)[:1]
    np.testing.assert_array_equal(ballot_of(votes).weights(1.0), np.ones(3))


def test_file_and_array_have_the_same_mask_and_the_record_says_how(trained: Path, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40), np.uint8)
    image = picture(tmp_path / "a.png", pixels)
    sampling = Sampling(votes=5, decision="expected-dice")
    prediction = load(trained, sampling).predict(image)
    (row,) = predict(trained, [image], tmp_path / "out", sampling).done
    assert row["decision"] == "expected-dice"
    assert row["volume"]["lesion"] == (prediction.mask == 1).sum()
    assert prediction.signs.voxels[1] == (prediction.mask == 1).sum()
    with pytest.raises(UserError, match="largest or expected-dice"):
        Sampling(decision="best")
