"""The order of the choice, by hand and by properties."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdal.inference.selection import select


def indices(scores: list[float], patients: list[str] | None = None, **rest: object) -> list[int]:
    patients = patients or [str(i) for i in range(len(scores))]
    picks = select(np.array(scores), patients, rest.pop("count", len(scores)), **rest)
    return [pick.index for pick in picks]


def test_the_highest_score_first_and_the_first_of_equal_ones():
    assert indices([0.1, 0.5, 0.3, 0.5]) == [1, 3, 2, 0]
    assert indices([0.1, 0.5, 0.3, 0.5], count=2) == [1, 3]


def test_a_patient_has_a_second_image_after_all_have_one():
    # a has the three highest scores.
    assert indices([9, 8, 7, 2, 1, 3], ["a", "a", "a", "b", "b", "c"]) == [0, 5, 3, 1, 4, 2]


def test_weighted_k_centre_by_hand():
    """Images at 0, 1 and 10 on a line: D is the mean of 1, 100 and 81."""
    places = np.array([[0.0], [1.0], [10.0]])
    picks = select(np.array([1.0, 0.9, 0.5]), list("abc"), 3, places)
    mean = (1 + 100 + 81) / 3
    assert [pick.index for pick in picks] == [0, 2, 1]  # the near copy last
    assert [pick.nearest for pick in picks] == [None, 0, 0]
    assert picks[1].likeness == pytest.approx(math.exp(-100 / mean))
    assert picks[1].score == pytest.approx(0.5 * (1 - math.exp(-100 / mean)))
    assert picks[2].score == pytest.approx(0.9 * (1 - math.exp(-1 / mean)))


def test_near_copies_are_not_chosen_together():
    """Twenty copies of each of five images; the copies of the first have the highest scores."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 30))
    places = np.repeat(centres, 20, axis=0) + 0.01 * rng.normal(size=(100, 30))
    scores = np.repeat([0.9, 0.5, 0.4, 0.3, 0.2], 20) + 0.01 * rng.random(100)
    names = [str(i) for i in range(100)]
    with_places = [pick.index // 20 for pick in select(scores, names, 5, places)]
    without = [pick.index // 20 for pick in select(scores, names, 5)]
    assert sorted(with_places) == [0, 1, 2, 3, 4]
    assert without == [0] * 5


def test_images_that_are_all_the_same_come_by_their_score():
    assert indices([0.1, 0.3, 0.2], places=np.ones((3, 4))) == [1, 2, 0]


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_every_image_once_and_patients_even(images: list[tuple[float, str]]):
    scores, patients = [score for score, _ in images], [patient for _, patient in images]
    order = indices(scores, patients)
    assert sorted(order) == list(range(len(images)))
    left, taken = Counter(patients), Counter()
    for index in order:
        patient = patients[index]
        assert taken[patient] == min(taken[name] for name in patients if left[name])
        taken[patient] += 1
        left[patient] -= 1
