"""The equations of the paper, against numbers worked out by hand, float64, and
MONAI's scheduler.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.schedulers import DDPMScheduler

from cdal.segmenters.diffusion.schedule import (
    diffuse,
    diffuse_one_step,
    make_schedule,
    posterior,
    sample_posterior,
)

TIMESTEPS = st.integers(1, 12)


def test_the_numbers_of_four_steps_are_those_worked_out_by_hand():
    schedule = make_schedule(4)
    np.testing.assert_allclose(schedule.beta[1:], [0.476, 0.849, 0.956, 0.987], atol=5e-4)
    np.testing.assert_allclose(schedule.alpha_bar[1:], [0.524, 0.079, 0.0034, 4e-5], rtol=0.09)


@given(TIMESTEPS)
def test_alpha_bar_depends_on_t_over_T_alone(T: int):
    s = torch.arange(T + 1, dtype=torch.float64) / T
    expected = torch.exp(-0.1 * s - 19.9 * s**2 / 2)
    torch.testing.assert_close(make_schedule(T).alpha_bar.double(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("T", "divisor"), [(4, 2), (4, 1), (6, 3)])
def test_a_schedule_contains_those_whose_steps_divide_its_own(T: int, divisor: int):
    torch.testing.assert_close(
        make_schedule(T).alpha_bar[:: T // divisor], make_schedule(divisor).alpha_bar
    )


def test_no_steps_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        make_schedule(0)


def monai_scheduler(T: int) -> DDPMScheduler:
    """MONAI's scheduler with our betas; its timestep i is our t = i + 1."""
    ours = make_schedule(T)
    scheduler = DDPMScheduler(num_train_timesteps=T, prediction_type="sample", clip_sample=False)
    scheduler.betas = ours.beta[1:].double()
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, dim=0)
    return scheduler


@pytest.mark.parametrize("T", [1, 2, 4, 7])
def test_forward_process_and_posterior_agree_with_monai(T: int, rng: torch.Generator):
    scheduler, schedule = monai_scheduler(T), make_schedule(T)
    x0, noise, x_t = (torch.randn(T, 2, 5, 6, generator=rng, dtype=torch.float64) for _ in range(3))
    t = torch.arange(1, T + 1)
    theirs = scheduler.add_noise(x0, noise, t - 1)
    torch.testing.assert_close(diffuse(schedule, x0, t, noise), theirs, rtol=1e-5, atol=1e-5)
    for i in range(T):
        theirs, _ = scheduler.step(x0[i], i, x_t[i], torch.Generator().manual_seed(i))
        drawn = torch.randn(
            x0[i].shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64
        )
        ours = sample_posterior(schedule, x0[i : i + 1], x_t[i : i + 1], t[i : i + 1], drawn[None])
        torch.testing.assert_close(ours[0], theirs, rtol=1e-4, atol=1e-4)


@given(TIMESTEPS, st.data())
def test_one_step_after_another_is_the_step_of_the_whole(T: int, data: st.DataObject):
    """The mean and variance of q(x_t | x_{t-1}) after q(x_{t-1} | x_0) are those of
    q(x_t | x_0).
    """
    schedule = make_schedule(T)
    t = torch.tensor([data.draw(st.integers(1, T))])
    one, zero = (
        torch.ones(1, 1, 1, 1, dtype=torch.float64),
        torch.zeros(1, 1, 1, 1, dtype=torch.float64),
    )
    mean = diffuse_one_step(schedule, diffuse(schedule, one, t - 1, zero), t, zero)
    torch.testing.assert_close(mean, diffuse(schedule, one, t, zero), rtol=1e-5, atol=1e-9)
    earlier = diffuse_one_step(schedule, diffuse(schedule, zero, t - 1, one), t, zero)
    later = diffuse_one_step(schedule, zero, t, one)
    whole = diffuse(schedule, zero, t, one)
    torch.testing.assert_close(earlier**2 + later**2, whole**2, rtol=1e-5, atol=1e-9)


@given(TIMESTEPS, st.data())
def test_posterior_follows_from_the_rule_of_bayes(T: int, data: st.DataObject):
    """Precisions of q(x_{t-1} | x_0) and of q(x_t | x_{t-1}) add up, in float64 and from the
    definition.
    """
    t = data.draw(st.integers(2, max(2, T)))
    T = max(T, t)
    schedule = make_schedule(T)
    beta, bar = float(schedule.beta[t]), float(schedule.alpha_bar[t - 1])
    x0, x_t = data.draw(st.floats(-2, 2)), data.draw(st.floats(-3, 3))
    precision = 1 / (1 - bar) + (1 - beta) / beta
    expected = (math.sqrt(bar) * x0 / (1 - bar) + math.sqrt(1 - beta) * x_t / beta) / precision
    tensors = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (x0, x_t))
    mean, variance = posterior(schedule, *tensors, torch.tensor([t]))
    assert float(mean) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert float(variance) == pytest.approx(1 / precision, rel=1e-3)


def test_the_last_posterior_is_the_clean_label_itself(rng: torch.Generator):
    schedule = make_schedule(4)
    x0, x_t, noise = (torch.randn(3, 1, 4, 4, generator=rng) for _ in range(3))
    torch.testing.assert_close(
        sample_posterior(schedule, x0, x_t, torch.ones(3, dtype=torch.long), noise), x0
    )


def test_each_sample_has_its_own_t(rng: torch.Generator):
    schedule = make_schedule(4)
    x0, noise = (torch.randn(4, 2, 3, 3, 3, generator=rng) for _ in range(2))
    t = torch.tensor([4, 1, 3, 2])
    together = diffuse(schedule, x0, t, noise)
    alone = torch.cat(
        [diffuse(schedule, x0[i : i + 1], t[i : i + 1], noise[i : i + 1]) for i in range(4)]
    )
    torch.testing.assert_close(together, alone)
