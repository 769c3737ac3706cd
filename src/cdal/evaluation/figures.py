"""Figures of a comparison: differences from the reference, and the scores of every case."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from cdal.evaluation.comparison import Comparison
from cdal.evaluation.metrics import DISTANCES, SCORES

_COLUMNS_OF_SLOPES = 4
_WIDE = 10.0
"""If a difference exceeds this, the axis is linear up to 1 and logarithmic beyond."""


def differences(comparison: Comparison) -> Figure:
    """Draw the difference of each system from the reference, with its 95 % interval over cases.

    With several seeds, a grey band shows the effect of another seed: the standard deviation of the
    reference's means over seeds.
    """
    score, against = comparison.score, comparison.against
    scale, unit = (
        (1.0, comparison.protocol.get("unit", "")) if score in DISTANCES else (100.0, "points")
    )
    of_seeds = scale * comparison.described[comparison.reference][None][score].sd_over_seeds
    places = range(len(against), 0, -1)
    means = scale * np.array([test.difference for test in against.values()])
    low, high = scale * np.array([test.interval for test in against.values()]).T
    figure = Figure(figsize=(7.5, 0.9 + 0.25 * len(against)), layout="constrained")
    axis = figure.subplots()
    if not math.isnan(of_seeds):
        axis.axvspan(-of_seeds, of_seeds, color="#dddddd", linewidth=0, label="another seed")
        axis.legend(frameon=False, fontsize=8)
    axis.axvline(0, color="#888888", linewidth=1)
    axis.errorbar(
        means,
        list(places),
        xerr=[means - low, high - means],
        fmt="o",
        color="#1f77b4",
        markersize=4,
        linewidth=1.2,
    )
    if np.nanmax(np.abs(means), initial=0.0) > _WIDE:
        axis.set_xscale("symlog", linthresh=1.0)
        axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(list(places), [_plain_text(name) for name in against], fontsize=8)
    axis.set_xlabel(
        f"{SCORES[score]} against {_plain_text(comparison.reference)}, {unit}", fontsize=9
    )
    axis.grid(axis="x", alpha=0.3)
    return figure


def boxes(comparison: Comparison) -> Figure:
    """Draw a box plot of each system over its cases, with the mean and every case as a point."""
    finished = comparison.finished
    figure = Figure(figsize=(7.5, 0.9 + 0.36 * len(finished)), layout="constrained")
    axis = figure.subplots()
    rng = np.random.default_rng(0)
    values = [_clean(competitor.values(comparison.score)) for competitor in finished]
    places = range(len(finished), 0, -1)
    axis.boxplot(
        values,
        positions=list(places),
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        showmeans=True,
    )
    for place, scores in zip(places, values, strict=True):
        axis.plot(
            scores,
            place + rng.uniform(-0.2, 0.2, len(scores)),
            ".",
            color="#1f77b4",
            alpha=0.35,
            markersize=3,
        )
    axis.set_yticks(list(places), [_plain_text(competitor.name) for competitor in finished])
    axis.set_xlabel(f"{SCORES[comparison.score]} of a case, mean of the classes")
    axis.grid(axis="x", alpha=0.3)
    return figure


def slopes(comparison: Comparison) -> Figure:
    """Draw each case as a line from the reference to a system.

    The line is green if the system is better, red if it is worse, and grey if both are equal.
    """
    reference = next(c for c in comparison.finished if c.name == comparison.reference)
    compared = [competitor for competitor in comparison.finished if competitor is not reference]
    columns = min(_COLUMNS_OF_SLOPES, len(compared))
    count = math.ceil(len(compared) / columns)
    figure = Figure(figsize=(2.4 * columns + 0.4, 2.5 * count), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False, sharey=True).ravel()
    theirs, sign = reference.values(comparison.score), -1 if comparison.score in DISTANCES else 1
    for axis, other in zip(axes, compared, strict=False):
        ours = other.values(comparison.score)
        gain = sign * (ours - theirs)
        for before, after, more in zip(theirs, ours, gain, strict=True):
            colour = "#2a9d8f" if more > 0 else "#e76f51" if more < 0 else "#888888"
            axis.plot([0, 1], [before, after], color=colour, alpha=0.4, linewidth=0.8)
        axis.set_xticks([0, 1], [_plain_text(reference.name), _plain_text(other.name)], fontsize=7)
        axis.set_xlim(-0.15, 1.15)
        axis.set_title(
            f"{int((gain > 0).sum())} of {int((~np.isnan(gain)).sum())} better", fontsize=8
        )
    for axis in axes[len(compared) :]:
        axis.set_axis_off()
    figure.supylabel(f"{SCORES[comparison.score]} of a case, mean of the classes", fontsize=9)
    return figure


def _clean(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _plain_text(name: str) -> str:
    """Escape the dollar signs, because matplotlib reads them as the start of a formula."""
    return name.replace("$", r"\$")
