"""Merge returned records into `docs/results/gpu`, and write the page `docs/results/gpu.md`.

    python benchmarks/gpu/results.py [FOLDER]

A part of an earlier record is kept if the new record lacks it, or if it failed there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plan import RESULTS, STEPS, missing, read_record

Parts = Mapping[str, dict[str, Any]]


def keep(folder: Path, kept: Path) -> None:
    """Merge the records of a folder into the kept ones.

    Args:
        folder: folder with returned records.
        kept: folder of the kept records.

    Raises:
        SystemExit: the folder holds no record; or it holds a rehearsal, whose records must not be
            mixed with the results.
    """
    returned = {
        step: record
        for step in STEPS
        if (record := read_record(folder / f"{step}.json")) is not None
    }
    if not returned:
        raise SystemExit(
            f"{folder} holds no record of a step: {', '.join(f'{step}.json' for step in STEPS)}."
        )
    if kept == RESULTS and any(record["tiny"] for record in returned.values()):
        raise SystemExit(f"{folder} holds a rehearsal. Choose another folder with --into.")
    kept.mkdir(parents=True, exist_ok=True)
    for step, record in returned.items():
        target = kept / f"{step}.json"
        earlier = read_record(target)
        if earlier is not None and step == "correct" and record["state"] == "begun":
            continue  # its parts are only valid together
        if earlier is not None and step != "correct":
            good = {name: part for name, part in earlier["parts"].items() if "error" not in part}
            new = {
                name: part
                for name, part in record["parts"].items()
                if "error" not in part or name not in good
            }
            record["parts"] = good | new
            if "expected" in record and not missing(record):
                record["state"] = "done"
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def page(kept: Path) -> str:
    """The page as Markdown."""
    records = {
        step: record for step in STEPS if (record := read_record(kept / f"{step}.json")) is not None
    }
    lines = [
        "# On a GPU",
        "",
        "Written by `python benchmarks/gpu/results.py` from the records in [gpu/](gpu/), which "
        "`benchmarks/gpu` makes ([the plan](../../benchmarks/gpu/README.md)). What the figures "
        "say about speed stands in [speed](speed.md#on-a-gpu).",
        "",
        *table(
            ["step", "question", "run", "card", "found"],
            [step_row(step, records.get(step)) for step in STEPS],
        ),
    ]
    for step, record in records.items():
        lines += ["", f"## {step}", "", *about(record), *section(step, record["parts"])]
    return "\n".join(lines) + "\n"


def step_row(step: str, record: Mapping[str, Any] | None) -> list[str]:
    """The row of a step in the first table."""
    if record is None:
        return [step, STEPS[step].about, "not run", "", ""]
    left = missing(record)
    state = (
        f"without {', '.join(left)}" if left else "done" if record["state"] == "done" else "in part"
    )
    return [
        step,
        STEPS[step].about,
        f"{record['machine']['date']}, {state}",
        record["machine"]["name"],
        found(step, record["parts"]),
    ]


def found(step: str, parts: Parts) -> str:
    """The results of a step in one line."""
    if step == "correct":
        return ", ".join(
            f"{sum(p['outcome'] == kind for p in parts.values())} {kind}"
            for kind in ("passed", "failed", "skipped")
        )
    if step == "fast":
        return f"{sum('error' not in part for part in parts.values())} parts"
    good = {name: part["summary"] for name, part in parts.items() if "summary" in part}
    return "; ".join(
        f"{name}: Dice {summary['mean']['dice']:.4f}" for name, summary in good.items()
    )


def about(record: Mapping[str, Any]) -> list[str]:
    """A line about the machine and the versions."""
    return [", ".join(f"{key} {value}" for key, value in record["machine"].items()), ""]


def section(step: str, parts: Parts) -> list[str]:
    """The tables of a step."""
    good = {name: part for name, part in parts.items() if "error" not in part or step == "correct"}
    if step == "correct":
        return correct(good)
    return fast(good) if step == "fast" else trainings(good)


_NOT_MEASURED = (
    "outcome",
    "test_seconds",
    "failure",
    "error",
    "part_seconds",
    "on",
    "date",
    "code",
)


def correct(parts: Parts) -> list[str]:
    """Tables of differences from the CPU and of tests that did not pass; names of the others."""
    rows, not_passed, passed = [], [], []
    for name, part in parts.items():
        title = name.split("::")[-1].removeprefix("test_").replace("_", " ")
        measured = {key: value for key, value in part.items() if key not in _NOT_MEASURED}
        if "probabilities of the cpu" in title:
            rows.append(
                {
                    "of": title.split("[")[1].removesuffix("]"),
                    "outcome": part["outcome"],
                    **measured,
                }
            )
        elif part["outcome"] == "passed":
            passed.append(title)
        else:
            values = "; ".join(f"{key}: {number(value)}" for key, value in measured.items())
            not_passed.append([title, part["outcome"], values])
    lines = [
        "Probabilities on the GPU, less those on the CPU in float32:",
        "",
        *of_mappings(rows),
        "",
    ]
    lines += [
        "The other tests that did not pass:",
        "",
        *table(["test", "outcome", "measured"], not_passed),
        "",
    ]
    return [*lines, f"Passed: {'; '.join(passed)}."]


def fast(parts: Parts) -> list[str]:
    """Tables of training steps, batches and graphs, profiles, and `cdal bench`."""
    lines = []
    steps = {
        name.split(": ")[1]: part
        for name, part in parts.items()
        if name.startswith("training step: ")
    }
    kinds = unique(kind for part in steps.values() for kind in part["ms a step"])
    rows = [
        [
            name,
            part["batch"],
            part["parameters"] / 1e6,
            part["GFLOP a step"],
            *(part["ms a step"].get(kind) for kind in kinds),
        ]
        for name, part in steps.items()
    ]
    heads = [
        "recipe",
        "batch",
        "M parameters",
        "GFLOP a step",
        *(f"ms a step, {kind}" for kind in kinds),
    ]
    lines += ["A training step of all players:", "", *table(heads, rows), ""]
    for name, part in parts.items():
        if name.startswith("batches and graphs"):
            lines += [f"{name}, {part['votes']} votes:", "", *of_mappings(part["rows"]), ""]
        elif name.startswith("profile"):
            facts = ", ".join(
                f"{key} {number(part[key])}" for key in ("wall ms", "device ms", "kernels")
            )
            lines += [
                f"{name} ({facts}), the operations that take the most of the device:",
                "",
                *of_mappings(part["operations"][:8]),
                "",
            ]
        elif name in ("batches made on the CPU", "prediction that repeats itself", "torch.compile"):
            measured = {key: value for key, value in part.items() if key not in _NOT_MEASURED}
            nested = [
                {"of": key, **(value if isinstance(value, dict) else {"ms": value})}
                for key, value in measured.items()
            ]
            lines += [f"{name}, ms:", "", *of_mappings(nested), ""]
    benched = {name: part for name, part in parts.items() if name.startswith("bench: ")}
    for position, (name, part) in enumerate(benched.items()):
        tables = {
            key: rows
            for key, rows in part.items()
            if isinstance(rows, list) and (key != "machine" or position == 0)
        }
        for key, rows in tables.items():
            lines += [f"`cdal bench {name.split(': ')[1]}`, {key}:", "", *of_mappings(rows), ""]
    return lines[:-1]


def trainings(parts: Parts) -> list[str]:
    """Table of the trainings: duration, scores, and the best Dice of the test cases.

    The latter is what selecting the weights on the test cases would have reported.
    """
    rows = []
    for name, part in parts.items():
        summary, best = part["summary"], part.get("best on the test cases")
        low, high = summary["mean"]["interval"]["dice"]
        validations = [row["validation"] for row in part["curve"] if "validation" in row]
        rows.append(
            {
                "system": name,
                "steps": part["training"]["steps"],
                "minutes": part["training"]["seconds"] / 60,
                "best validation Dice": max(validations, default=None),
                "test cases": summary["cases"],
                "votes": summary["protocol"]["votes"],
                "scoring": summary["protocol"]["scoring"],
                "Dice": f"{summary['mean']['dice']:.4f} ({low:.4f} - {high:.4f})",
                **{
                    score: f"{summary['mean'][score]:.4f}"
                    for score in ("iou", "precision", "recall")
                },
                **{
                    f"Dice {k}": f"{scores['dice']:.4f}"
                    for k, scores in summary["classes"].items()
                    if len(summary["classes"]) > 1
                },
                "best Dice of the test cases at a validation": (
                    f"{best['test']:.4f}, step {best['step']}" if best else ""
                ),
                "s a case": summary["seconds_per_case"],
                **votes_of(summary),
            }
        )
    return of_mappings(rows)


def votes_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """How close the votes are to several annotators, if there are several."""
    measured = summary.get("annotators") or {}
    names = {"ged": "GED", "matched_iou": "HM-IoU", "diversity_agreement": "diversity agreement"}
    return {head: f"{measured[name]:.4f}" for name, head in names.items() if measured.get(name)}


def of_mappings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table of mappings, whose keys become the column headings."""
    heads = unique(key for row in rows for key in row)
    return table(heads, [[row.get(head) for head in heads] for row in rows])


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + [
        "| " + " | ".join(number(value).replace("|", "/") for value in row) + " |" for row in rows
    ]


def number(value: Any) -> str:
    """Format a value; numbers get three significant digits, large ones no decimals."""
    if value is None or value == "":
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def unique(names: Iterable[str]) -> list[str]:
    """The distinct names in their order."""
    return list(dict.fromkeys(names))


def main() -> None:
    """Merge the records and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="folder with returned records; without it, only the page is written",
    )
    parser.add_argument(
        "--into",
        type=Path,
        default=RESULTS,
        help="folder of the kept records; the page is written next to it",
    )
    options = parser.parse_args()
    if options.folder is not None:
        keep(options.folder, options.into)
    target = options.into.with_suffix(".md")
    target.write_text(page(options.into), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
