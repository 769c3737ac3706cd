"""Cells of a table as text."""

from __future__ import annotations

import math

Rows = list[list[str]]
"""Cells of a table by row; the first row holds the column headings."""


def measured(mean: float, sd: float) -> str:
    """A mean, with the standard deviation over trainings if there are several."""
    return f"{mean:.3g}" if math.isnan(sd) else f"{mean:.3g} ± {sd:.1g}"


def interval(ends: tuple[float, float], scale: float, form: str) -> str:
    """Both ends of an interval in brackets, multiplied by `scale`; empty if they are NaN."""
    return "" if math.isnan(ends[0]) else f" ({scale * ends[0]:{form}} to {scale * ends[1]:{form}})"


def p_value(value: float) -> str:
    """A p-value; empty if it is NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def escaped(cell: str) -> str:
    """A cell with LaTeX's special characters escaped."""
    special = {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "±": r"$\pm$",
        "<": "$<$",
    }
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in cell)
