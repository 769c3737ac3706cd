"""The log of a run: `metrics.jsonl`, the plot of the learning curve, and TensorBoard's events.

The last are written if TensorBoard is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cdal.runtime.errors import UserError
from cdal.runtime.files import write_figure, write_text


class Log:
    """The numbers of each step, written with every checkpoint.

    Args:
        out: run folder.
        step: number of finished steps. Entries of later steps, written before the run was killed,
            are deleted.

    Raises:
        UserError: the log so far is damaged, or a file has the name of TensorBoard's folder.
    """

    def __init__(self, out: Path, step: int) -> None:
        self.path = out / "metrics.jsonl"
        board = out / "tensorboard"
        if board.exists() and not board.is_dir():
            raise UserError(
                f"{board} is a file; TensorBoard's events belong into a folder of this name. Move "
                "it away, or give another --out."
            )
        self.rows: list[dict[str, Any]] = []
        kept = [row for row in read_log(out) if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.board = _tensorboard(board, step) if find_spec("tensorboard") else None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        self.rows.append({"step": step, **values})

    def flush(self) -> None:
        """Write the numbers added since the last flush."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.rows)
        if self.board:
            for row in self.rows:
                values = {name: value for name, value in row.items() if name != "step"}
                self.board.log_metrics(values, row["step"])
            # What a checkpoint has, a kill after it does not take away.
            self.board.experiment.flush()
        self.rows.clear()

    def close(self) -> None:
        """Write the remaining numbers and close the files."""
        self.flush()
        if self.board:
            self.board.finalize("success")


def _tensorboard(board: Path, step: int) -> Any:
    from lightning_fabric.loggers import TensorBoardLogger

    return TensorBoardLogger(
        board.parent, name=board.name, version="", purge_step=step + 1, max_queue=1000
    )


def read_log(out: Path) -> list[dict[str, Any]]:
    """Read the rows of `metrics.jsonl`; an incomplete last line is skipped.

    Raises:
        UserError: the file is damaged.
    """
    path = out / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        for number, row in enumerate(rows, start=1):
            if not _is_row(row):
                raise ValueError(f"line {number} has no step, or other values than numbers")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged: {error}. Delete it to resume without the log so far."
        ) from error
    return rows


def _is_row(row: object) -> bool:
    """Whether this is a step and the numbers of it."""
    return (
        isinstance(row, dict)
        and type(row.get("step")) is int
        and all(type(value) in (int, float) for value in row.values())
    )


def learning_curve(out: Path) -> Path | None:
    """Plot the loss and the validation Dice in `learning_curve.png`.

    Returns:
        Path of the plot; `None` if nothing is logged yet.
    """
    from matplotlib.figure import Figure

    rows = read_log(out)
    validations = [row for row in rows if "validation" in row]
    players = sorted(
        {name for row in rows for name in row if "/" not in name} - {"step", "validation", "test"}
    )
    if not players:
        return None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for player in players:
        points = [(row["step"], row[player]) for row in rows if player in row]
        left.plot(*zip(*block_means(points, 50), strict=True), label=player, linewidth=1)
    left.set(xlabel="step", ylabel="loss (mean of each 50th part)")
    left.legend(frameon=False)
    for name in sorted(
        {name for row in validations for name in row if name.startswith("validation/")}
    ):
        steps, dice = [row["step"] for row in validations], [row[name] for row in validations]
        right.plot(steps, dice, marker=".", label=name.split("/", 1)[1])
    right.set(xlabel="step", ylabel="Dice, validation cases")
    if validations:
        right.legend(frameon=False)
    path = out / "learning_curve.png"
    write_figure(path, figure)
    return path


def block_means(points: Sequence[tuple[int, float]], blocks: int) -> list[tuple[int, float]]:
    """Means over successive blocks of a curve of (step, value), each at its last step.

    Args:
        points: the curve.
        blocks: number of blocks, about; a shorter curve has one for each point.
    """
    width = max(1, len(points) // blocks)
    means = []
    for i in range(0, len(points), width):
        chunk = points[i : i + width]
        means.append((chunk[-1][0], sum(value for _, value in chunk) / len(chunk)))
    return means
