"""The pictures of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.evaluation.comparison import compare
from cdal.evaluation.figures import differences
from helpers.results import evaluation_on_disk


def test_the_picture_of_differences_shows_them_with_intervals_and_seeds(
    tmp_path: Path, dice: np.ndarray
):
    """What is drawn is what was tested, in points; where one is far away, the near ones can still
    be distinguished.
    """
    for seed, shift in enumerate((0.0, 0.01, 0.03)):
        for name, less in (("ours", 0.0), ("near", 0.004), ("far", 0.3)):
            evaluation_on_disk(
                tmp_path / f"{name}-{seed}",
                name,
                dice - shift - less * (1 + dice),
                training_seed=seed,
            )
    comparison = compare(sorted(tmp_path.iterdir()), reference="ours")
    (axis,) = differences(comparison).axes
    (points, _, (bars,)) = axis.containers[0]
    drawn = dict(
        zip([label.get_text() for label in axis.get_yticklabels()], points.get_xdata(), strict=True)
    )
    assert drawn == {
        name: pytest.approx(-100 * less * (1 + dice.mean()))
        for name, less in (("near", 0.004), ("far", 0.3))
    }
    ends = {name: segment[:, 0] for name, segment in zip(drawn, bars.get_segments(), strict=True)}
    assert ends["far"] == pytest.approx(100 * np.array(comparison.against["far"].interval))
    band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
    assert band.x1 == pytest.approx(100 * np.std([0.0, 0.01, 0.03], ddof=1))
    assert axis.get_xscale() == "symlog"
