"""The table of a comparison that sets votes against several annotators."""

from __future__ import annotations

from cdal.evaluation.agreement import AGREEMENT
from cdal.evaluation.cells import Rows, interval, measured, p_value
from cdal.evaluation.comparison import Comparison

_ABOUT = (
    "GED (lower is better), HM-IoU, diversity agreement and rank correlation (higher) compare the "
    "votes with all annotators; Dice compares the mask with what most of them chose. Empty: share "
    "of empty votes, and of empty annotations, where some annotators, but not all, saw nothing."
)


def annotators_table(comparison: Comparison) -> Rows:
    """Measures of agreement, one row for each system that did not fail.

    The GED has its 95 % interval over cases and, if all systems have it by case, its difference to
    the reference, paired by case. The table is empty if no case has several annotators.
    """
    by_name = {competitor.name: competitor.uncertainty() for competitor in comparison.finished}
    shown = [
        measure
        for measure in AGREEMENT
        if any(measure in measures for measures in by_name.values())
    ]
    if not shown:
        return []
    tested = [f"GED against {comparison.reference}", "p permutation"] if comparison.ged else []
    rows = [["system", *[AGREEMENT[measure] for measure in shown], "Dice, mean (%)"]]
    rows[0][2:2] = tested
    for name, measures in by_name.items():
        cells = [measured(*measures[one]) if one in measures else "" for one in shown]
        if comparison.ged:
            cells[0] += interval(comparison.ged[name].interval, 1.0, ".3f")
            cells[1:1] = _against(comparison, name)
        dice = comparison.described[name][None]["dice"]
        rows.append([name, *cells, measured(100 * dice.mean, 100 * dice.sd_over_seeds)])
    return rows


def annotators_remark(comparison: Comparison) -> str:
    """Explanation of the numbers in `annotators_table`."""
    several = len(comparison.finished[0].results) > 1
    spread = "After ±: standard deviation over trainings. " if several else ""
    brackets = "In brackets: 95 % bootstrap interval over cases. " if comparison.ged else ""
    return f"{spread}{brackets}{_ABOUT}"


def _against(comparison: Comparison, name: str) -> list[str]:
    """Cells of the difference in GED to the reference."""
    against = comparison.ged_against.get(name)
    if against is None:
        return ["reference", ""]
    difference = f"{against.difference:+.3f}{interval(against.interval, 1.0, '+.3f')}"
    return [difference, p_value(against.permutation)]
