"""Noise schedule, forward process and posterior (Hejrati et al., MICCAI 2024, Sec. 2.1 and Alg. 1).

All functions are pure. `x` and `noise` are `[B, L, *S]`, with L label channels and two or three
spatial axes. `t` is `[B]`, an integer from 1 to T for each sample. Index 0 of each table of a
schedule is the clean label, so `table[t]` needs no offset.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

BETA_MIN = 0.1
BETA_MAX = 20.0


@dataclass(frozen=True)
class Schedule:
    """The T noise levels.

    Attributes:
        beta: `[T + 1]`, beta_t of Alg. 1; beta_0 = 0.
        alpha: `[T + 1]`, 1 - beta_t. It has its own table because beta_t can be so close to 1 that
            the difference would be lost to rounding.
        alpha_bar: `[T + 1]`, the cumulative product of alpha_t; alpha_bar_0 = 1.
    """

    beta: Tensor
    alpha: Tensor
    alpha_bar: Tensor

    @property
    def timesteps(self) -> int:
        """T, the number of noise levels."""
        return len(self.beta) - 1


@functools.cache
def make_schedule(timesteps: int, device: torch.device | str = "cpu") -> Schedule:
    """The variance-preserving schedule of Alg. 1, first line; computed once for each T and device.

    beta_t = 1 - exp(-beta_min / T - (beta_max - beta_min)(2t - 1) / (2 T²)), so that
    alpha_bar_t = exp(-beta_min s - (beta_max - beta_min) s² / 2) with s = t / T.

    The noise level depends on s alone. A schedule of T steps therefore contains every schedule
    whose number of steps divides T.

    Args:
        timesteps: T, the number of noise levels, at least 1.
        device: device of the tables.

    Raises:
        ValueError: T is below 1.
    """
    if timesteps < 1:
        raise ValueError(f"timesteps must be at least 1; it is {timesteps}.")
    t = torch.arange(1, timesteps + 1, dtype=torch.float64)
    exponent = BETA_MIN / timesteps + (BETA_MAX - BETA_MIN) * (2 * t - 1) / (2 * timesteps**2)
    exponent = torch.cat([torch.zeros(1, dtype=torch.float64), exponent])
    tables = -torch.expm1(-exponent), torch.exp(-exponent), torch.exp(-exponent.cumsum(dim=0))
    return Schedule(*(table.float().to(device) for table in tables))


def at(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """The entries `table[t]`, shaped `[B, 1, ...]` to broadcast over `x` of `[B, L, *S]`."""
    return _shaped(table[t], x)


def diffuse(schedule: Schedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(x_t | x_0), Sec. 2.1: sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise.

    The paper prints the second factor without the root. The variance that it gives,
    1 - alpha_bar_t, requires the root.
    """
    alpha_bar = at(schedule.alpha_bar, t, x0)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise


def diffuse_one_step(schedule: Schedule, x_previous: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(x_t | x_{t-1}), Sec. 2.1: sqrt(alpha_t) x_{t-1} + sqrt(beta_t) noise."""
    return (
        at(schedule.alpha, t, x_previous).sqrt() * x_previous
        + at(schedule.beta, t, x_previous).sqrt() * noise
    )


def posterior_weights(schedule: Schedule, t: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """The weights and the variance of q(x_{t-1} | x_t, x_0), Sec. 2.1 and Alg. 2.

    mean = sqrt(alpha_t)(1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) x_t
    + sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) x_0 and
    variance = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t.
    At t = 1 the mean is x_0 and the variance is 0.

    Returns:
        The weight of x_t, the weight of x_0, and the variance, in the shape of `t` (scalars for a
        number).
    """
    alpha, alpha_bar, alpha_bar_previous = (
        schedule.alpha[t],
        schedule.alpha_bar[t],
        schedule.alpha_bar[t - 1],
    )
    beta = schedule.beta[t]
    remaining = 1 - alpha_bar
    variance = (1 - alpha_bar_previous) / remaining * beta
    return (
        alpha.sqrt() * (1 - alpha_bar_previous) / remaining,
        alpha_bar_previous.sqrt() * beta / remaining,
        variance,
    )


def posterior(schedule: Schedule, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), see `posterior_weights`.

    Returns:
        Mean `[B, L, *S]` and variance `[B, 1, ...]`.
    """
    weight_x_t, weight_x0, variance = (
        _shaped(weight, x_t) for weight in posterior_weights(schedule, t)
    )
    return weight_x_t * x_t + weight_x0 * x0, variance


def sample_posterior(
    schedule: Schedule, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """Draw from q(x_{t-1} | x_t, x_0), Eq. 2 and 3, with the noise that Alg. 2 leaves out."""
    mean, variance = posterior(schedule, x0, x_t, t)
    return mean + variance.sqrt() * noise


def _shaped(numbers: Tensor, x: Tensor) -> Tensor:
    """Reshape `[B]` to `[B, 1, ...]`, to broadcast over `x` of `[B, L, *S]`."""
    return numbers.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
