"""The weighted cross-entropy of Res-UNet."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cdal.segmenters.baselines.res_unet import weighted_cross_entropy
from cdal.segmenters.segmenter import one_hot
from helpers.arrays import normal


@pytest.mark.parametrize("classes", [2, 4])
def test_all_classes_weigh_alike_in_the_weighted_cross_entropy(classes: int):
    logits, label = (
        normal(2, classes, 5, 6),
        torch.randint(classes, (2, 5, 6), generator=torch.Generator().manual_seed(0)),
    )
    label[0, 0] = 0
    counts = torch.bincount(label.flatten(), minlength=classes)
    assert (counts > 0).all()
    terms = weighted_cross_entropy(logits, one_hot(label, classes).double())
    torch.testing.assert_close(
        sum(terms.values()), F.cross_entropy(logits, label, weight=1.0 / counts.double())
    )


def test_a_class_that_does_not_occur_has_no_weight():
    logits, label = (
        normal(1, 3, 4, 4),
        torch.arange(16).reshape(1, 4, 4) % 5 % 2 * 2,
    )  # classes 0 and 2
    weight = torch.tensor(
        [1 / (label == 0).sum(), 123.0, 1 / (label == 2).sum()], dtype=torch.float64
    )
    terms = weighted_cross_entropy(logits, one_hot(label, 3).double())
    torch.testing.assert_close(sum(terms.values()), F.cross_entropy(logits, label, weight=weight))
