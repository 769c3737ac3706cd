"""The shapes of public functions are checked in every test, by `helpers.shapes`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeDoorHintViolation
from jaxtyping import Float
from torch import Tensor

import cdal
from cdal.inference import decision, segmented
from cdal.inference.decision import decide
from cdal.segmenters.diffusion.schedule import diffuse, make_schedule
from helpers.shapes import Each, Fields, Values, checked, shapes

KIND = Float[Tensor, "B C"]


def test_a_wrong_shape_is_refused_where_pytorch_would_broadcast():
    schedule, t = make_schedule(4), torch.tensor([1, 2])
    label = torch.zeros(2, 1, 4, 4)
    assert diffuse(schedule, label, t, label).shape == label.shape
    for wrong in (label[:1], label[..., :1], label[0], label.int()):
        with pytest.raises(BeartypeDoorHintViolation):
            diffuse(schedule, label, t, wrong)


def test_an_array_of_another_kind_is_refused():
    assert decide(np.eye(3, dtype=np.float32)).dtype == np.uint8
    with pytest.raises(BeartypeDoorHintViolation):
        decide(np.eye(3, dtype=np.int64))


def test_the_functions_are_checked_wherever_they_were_imported_to():
    assert segmented.decide is decision.decide is decide
    assert hasattr(decide, "__wrapped__")


@pytest.mark.parametrize(
    ("result", "function"),
    [
        (KIND, lambda x, y: y),
        ((KIND, KIND), lambda x, y: (x, y)),
        (Values(KIND), lambda x, y: {"x": x, "y": y}),
        (Fields(image=KIND), lambda x, y: SimpleNamespace(image=y)),
        (Each((KIND, KIND)), lambda x, y: iter([(x, x), (x, y)])),
    ],
    ids=["plain", "several", "values", "fields", "each"],
)
def test_results_are_checked_in_every_form(result: Any, function: Callable[..., Any]):
    """The second argument is not looked at; the result has to be of the shape of the first."""
    call = checked(function, shapes(result, x=KIND))
    first, second = torch.zeros(2, 3), torch.zeros(2, 4)
    found = call(first, first)
    assert not isinstance(result, Each) or len(list(found)) == 2
    with pytest.raises(BeartypeDoorHintViolation):
        found = call(first, second)
        list(found)


def test_the_package_itself_needs_none_of_this():
    for path in Path(cdal.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "jaxtyping" not in text and "beartype" not in text
