"""A run folder: the recipe it belongs to, and its log: `metrics.jsonl`, TensorBoard events, the picture of the learning curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdal.checkpoint import CHECKPOINT
from cdal.data.folder import DataFolder
from cdal.data.partition import Split
from cdal.errors import UserError
from cdal.files import write_figure, write_json, write_text
from cdal.recipe import Recipe, load_recipe, to_dict, to_yaml

MODEL = "model.safetensors"
"""The model file of a run."""

_RECIPE = "recipe.yaml"
_SPLIT = "splits.json"
_PARTITION = "run"
_COST = "cost.json"


def check_same_recipe(out: Path, recipe: Recipe) -> None:
    """Make sure that the run in a folder, if there is one, is this one.

    Raises:
        UserError: the folder holds the checkpoint or the model of another recipe.
    """
    if not (out / CHECKPOINT).is_file() and not (out / MODEL).is_file():
        return
    there, here = _flat(to_dict(load_recipe(out / _RECIPE))), _flat(to_dict(recipe))
    differing = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} now"
        for name in {**here, **there}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds a run of another recipe: {'; '.join(differing)}. "
            "Give the same settings to go on with it, or another --out."
        )


def claim(out: Path, recipe: Recipe) -> None:
    """Write the recipe into the run folder; errors as `check_same_recipe`."""
    check_same_recipe(out, recipe)
    write_text(out / _RECIPE, to_yaml(recipe))


def keep_split(out: Path, split: Split) -> None:
    """Write the names of the cases of each part beside the run, as a data folder would have them."""
    write_json(out / _SPLIT, {_PARTITION: [split.names()]})


def kept_split(out: Path, folder: DataFolder) -> Split | None:
    """The parts that a run began with, or none.

    Raises:
        UserError: a case of theirs is no longer there, or the file is damaged.
    """
    if not (out / _SPLIT).is_file() or not (out / CHECKPOINT).is_file():
        return None
    by_name = {case.name: case for case in folder.cases}
    try:
        (names,) = json.loads((out / _SPLIT).read_text(encoding="utf-8"))[_PARTITION]
        parts = [names[part] for part in ("train", "validation", "test")]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / _SPLIT} is damaged: {error!r}. Take {out} away to train again.") from error
    if missing := [name for part in parts for name in part if name not in by_name]:
        raise UserError(
            f"{out} holds a run on other data: {folder.root} lacks its cases {', '.join(missing[:5])}. Give the data folder it "
            "began with, or another --out."
        )
    return Split(*(tuple(by_name[name] for name in part) for part in parts))


def keep_cost(out: Path, cost: Mapping[str, Any]) -> None:
    """Write what the training took: steps, seconds, peak memory in GiB, device, threads. What is there is kept."""
    if not (out / _COST).is_file():
        write_json(out / _COST, dict(cost))


def kept_cost(out: Path) -> dict[str, Any]:
    """What `keep_cost` wrote; nothing where it did not, or where it cannot be read."""
    try:
        cost = json.loads((out / _COST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cost if isinstance(cost, dict) else {}


class Log:
    """Numbers by step, written when a checkpoint is.

    Args:
        out: the run folder.
        step: steps done; what the files say of later ones (the run was killed there) is taken away.
    """

    def __init__(self, out: Path, step: int) -> None:
        from lightning_fabric.loggers import TensorBoardLogger

        self.path = out / "metrics.jsonl"
        self.rows: list[dict[str, Any]] = []
        kept = [row for row in read_log(out) if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.board = TensorBoardLogger(out, name="tensorboard", version="", purge_step=step + 1, max_queue=1000)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note some numbers."""
        self.rows.append({"step": step, **values})

    def flush(self) -> None:
        """Write what was noted."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.rows)
        for row in self.rows:
            self.board.log_metrics({name: value for name, value in row.items() if name != "step"}, row["step"])
        self.rows.clear()

    def close(self) -> None:
        """Write the rest and let go of the files."""
        self.flush()
        self.board.finalize("success")


def read_log(out: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`; a last line that was cut off is left out."""
    path = out / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    try:
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged: {error}. Take it away to go on without the log so far.") from error


def learning_curve(out: Path) -> Path | None:
    """Draw loss and validation Dice into `learning_curve.png`; none where nothing is logged yet."""
    from matplotlib.figure import Figure

    rows = read_log(out)
    validations = [row for row in rows if "validation" in row]
    players = sorted({name for row in rows for name in row if "/" not in name} - {"step", "validation", "test"})
    if not players:
        return None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for player in players:
        points = [(row["step"], row[player]) for row in rows if player in row]
        left.plot(*zip(*_smooth(points), strict=True), label=player, linewidth=1)
    left.set(xlabel="step", ylabel="loss (moving mean)")
    left.legend(frameon=False)
    for name in sorted({name for row in validations for name in row if name.startswith("validation/")}):
        steps, dice = [row["step"] for row in validations], [row[name] for row in validations]
        right.plot(steps, dice, marker=".", label=name.split("/", 1)[1])
    right.set(xlabel="step", ylabel="Dice, validation cases")
    if validations:
        right.legend(frameon=False)
    path = out / "learning_curve.png"
    write_figure(path, figure)
    return path


def _smooth(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Moving mean over a fiftieth of the curve."""
    width = max(1, len(points) // 50)
    means = []
    for i in range(0, len(points), width):
        chunk = points[i : i + width]
        means.append((chunk[-1][0], sum(value for _, value in chunk) / len(chunk)))
    return means


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
