"""How the cost grows with votes and timesteps, and the encoder beside the best convolution."""

from __future__ import annotations

import pytest

from cdal.experiments.speed.growth import encoder, model_of_cost
from cdal.experiments.speed.machine import best_convolution


def test_the_cost_is_an_encoder_and_denoisers():
    rows = [
        {"of": "a volume", "V": V, "T": T, "seconds": 0.03 + 0.002 * V * T}
        for V in (1, 5, 15)
        for T in (1, 2, 4)
    ]
    rows.append(
        {"of": "a volume", "V": 5, "T": 2, "threads": 1, "seconds": 9.0}
    )  # no part of the fit
    fitted = model_of_cost(rows)
    assert fitted["encoder s"] == pytest.approx(0.03)
    assert fitted["denoiser s"] == pytest.approx(0.002)
    assert fitted["variance explained"] == pytest.approx(1)


def test_the_encoder_is_given_as_a_share_of_the_best_convolution(
    this_machine: list, small_encoder: None
):
    """Operations are seconds times their rate; they grow with the batch."""
    rows = encoder(this_machine, 1, "cpu")
    for row in rows:
        best = best_convolution(this_machine, row["precision"], 2)
        assert row["of best convolution"] == pytest.approx(row["GFLOP/s"] / best)
        assert row["GFLOP/s"] * row["seconds"] == pytest.approx(
            row["batch"] * rows[0]["GFLOP/s"] * rows[0]["seconds"]
        )
