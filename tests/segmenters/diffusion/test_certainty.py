"""The bound for the certainty of a label in training."""

from __future__ import annotations

import pytest
import torch

from cdal.segmenters.diffusion.certainty import MOST_CERTAIN, less_certain
from cdal.segmenters.diffusion.fast import to_x0


def test_logits_within_the_bound_are_left_alone(rng: torch.Generator):
    logits = (4 * torch.randn(2, 1, 5, 6, generator=rng)).requires_grad_(True)
    weight = torch.randn(logits.shape, generator=rng)
    bounded = less_certain(logits)
    (bounded * weight).sum().backward()
    assert torch.equal(bounded, logits)
    assert torch.equal(logits.grad, weight)


@pytest.mark.parametrize("labels", [1, 3])
def test_beyond_the_bound_only_a_gradient_that_leads_back_is_left(labels: int):
    """By hand: 60 below the other label (or 0), once pulled up and once pushed down."""
    values = [[-60.0, -60.0]] if labels == 1 else [[0.0, 0.0], [-60.0, -60.0], [-3.0, -3.0]]
    logits = torch.tensor([values], requires_grad=True)
    bounded = less_certain(logits)
    far = 0 if labels == 1 else 1
    assert bounded[0, far].tolist() == [-MOST_CERTAIN] * 2
    gradient = torch.zeros_like(bounded)
    gradient[0, far] = torch.tensor([-1.0, 1.0])
    bounded.backward(gradient)
    assert logits.grad[0, far].tolist() == [-1.0, 0.0]


def test_large_logits_of_one_label_are_bounded_above():
    logits = torch.tensor([[[60.0, 60.0]]], requires_grad=True)
    less_certain(logits).backward(torch.tensor([[[-1.0, 1.0]]]))
    assert logits.grad.tolist() == [[[0.0, 1.0]]]


@pytest.mark.parametrize("labels", [1, 3])
def test_adam_does_not_carry_a_right_answer_far_beyond_the_bound(labels: int):
    """However small a gradient is, Adam takes steps of its learning rate."""
    logits = torch.zeros(1, labels, 4, requires_grad=True)
    truth = torch.full((1, labels, 4), -1.0)
    if labels > 1:
        truth[:, 0] = 1.0
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(400):
        optimiser.zero_grad()
        (to_x0(less_certain(logits)) - truth).square().sum().backward()
        optimiser.step()
    found = logits.detach()
    spread = found.abs() if labels == 1 else found.amax(dim=1) - found.amin(dim=1)
    assert float(spread.max()) < MOST_CERTAIN + 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_answer_finds_back_from_anywhere(dtype: torch.dtype):
    """Of a thousand pixels one is foreground; all were carried to a logit of -60."""
    bias = torch.tensor(-60.0, requires_grad=True)
    truth = torch.zeros(1, 1, 1000)
    truth[..., 0] = 1.0
    optimiser = torch.optim.Adam([bias], lr=0.5)
    for _ in range(400):
        optimiser.zero_grad()
        logits = (bias + torch.zeros_like(truth)).to(dtype)
        p = (to_x0(less_certain(logits)) + 1) / 2
        (-(truth * p.log() + (1 - truth) * (1 - p).log()).mean()).backward()
        optimiser.step()
    # Cross-entropy is smallest where the probability is the share of the foreground.
    assert float(bias.detach().sigmoid()) == pytest.approx(1e-3, rel=0.2)
