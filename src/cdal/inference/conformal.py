"""Split conformal prediction: intervals with a coverage that holds for any model.

Source: Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al.,
"Distribution-Free Predictive Inference for Regression", JASA 2018, Sec. 2.2. If the n residuals
and that of a new case are exchangeable, the new residual is at most the value of `quantile` with a
probability of at least `level`, for every n. There is no such promise for cases of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def fewest(level: float) -> int:
    """The least number of residuals for an interval: the next whole number of level / (1 - level).

    For 0.9 it is 9.
    """
    return math.ceil(round(level / (1 - level), 9))


def quantile(residuals: Sequence[float], level: float) -> float | None:
    """The residual number ceil((n + 1) level) of n in rising order; `None` if n is too small."""
    place = math.ceil(round((len(residuals) + 1) * level, 9))
    return None if place > len(residuals) else sorted(residuals)[place - 1]
