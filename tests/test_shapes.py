"""The shapes of public functions are checked in every test, by `helpers.shapes`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

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


def test_results_are_checked_in_every_form():
    one, other = torch.zeros(2, 3), torch.zeros(2, 4)
    kind = Float[Tensor, "B C"]
    forms = {
        "plain": (kind, lambda x, y: y),
        "several": ((kind, kind), lambda x, y: (x, y)),
        "values": (Values(kind), lambda x, y: {"x": x, "y": y}),
        "fields": (Fields(image=kind), lambda x, y: SimpleNamespace(image=y)),
        "each": (Each((kind, kind)), lambda x, y: iter([(x, x), (x, y)])),
    }
    for name, (result, function) in forms.items():
        call = checked(function, shapes(result, x=kind))
        for y, right in ((one, True), (other, False)):
            found = call(one, y)
            if right:
                assert name != "each" or len(list(found)) == 2
            else:
                with pytest.raises(BeartypeDoorHintViolation):
                    list(call(one, y))


def test_the_package_itself_needs_none_of_this():
    for path in Path(cdal.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "jaxtyping" not in text and "beartype" not in text
