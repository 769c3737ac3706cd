"""A cross validation beside scores that others published case by case, as a Markdown table.

    python benchmarks/published.py EVALUATIONS SCORES

EVALUATIONS is the folder of `cdal crossval`, or of evaluations. SCORES is a table (.csv) with the
columns `case` and `fold`, and for each system and class a column SYSTEM_CLASS with the Dice, in
small letters. The cases of each fold have to be those that were published. Tests are paired over
cases; their p-values are corrected for the number of systems (Holm).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from cdal.evaluation.competitor import Competitor, competitors_of
from cdal.evaluation.metrics import bootstrap_interval
from cdal.evaluation.result import Result, find_results
from cdal.evaluation.significance import holm, wilcoxon


def published(path: Path) -> dict[str, dict[str, str]]:
    """Rows of the table by case."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def need_same_folds(results: tuple[Result, ...], rows: dict[str, dict[str, str]]) -> None:
    """End if a fold tested other cases than the published one."""
    for result in results:
        theirs = {case for case, row in rows.items() if int(row["fold"]) == result.fold}
        if theirs != set(result.scores):
            raise SystemExit(f"{result.path}: its test cases are not those of fold {result.fold}.")


def numbers(values: np.ndarray) -> str:
    """A mean with its interval."""
    low, high = bootstrap_interval(values)
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def compare(ours: Competitor, rows: dict[str, dict[str, str]]) -> None:
    """Print the rows of one of our systems."""
    need_same_folds(ours.results, rows)
    cases = sorted({case for result in ours.results for case in result.scores})
    classes = ours.results[0].classes
    first = f"_{classes[0].lower()}"
    columns = [name for name in next(iter(rows.values())) if name.endswith(first)]
    systems = [name.removesuffix(first) for name in columns]
    for kind in (*classes, None):
        own = ours.values("dice", kind)
        label = f"{ours.name}, {len(cases)} cases"
        print(f"| {label} | {kind or 'mean'} | {numbers(own)} | | | |")
        kinds = classes if kind is None else (kind,)
        theirs = [
            np.array(
                [
                    np.mean([float(rows[case][f"{system}_{k.lower()}"]) for k in kinds])
                    for case in cases
                ]
            )
            for system in systems
        ]
        p_values = holm([wilcoxon(own, values) for values in theirs])
        for system, values, p in zip(systems, theirs, p_values, strict=True):
            better = float((own > values).mean())
            print(
                f"| {system} | {kind or 'mean'} | {numbers(values)} | {numbers(own - values)} | "
                f"{p:.2g} | {better:.0%} |"
            )


def main() -> None:
    """Compare the scores and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluations", nargs="+")
    parser.add_argument("scores", type=Path)
    options = parser.parse_args()
    rows = published(options.scores)
    print("| system | class | Dice | ours minus theirs | p | ours better in |")
    print("|---|---|---|---|---|---|")
    for competitor in competitors_of(list(find_results(options.evaluations, None))):
        compare(competitor, rows)


if __name__ == "__main__":
    main()
