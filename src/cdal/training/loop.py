"""The training loop: turns, moving average, validation, checkpoints and exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import process_time
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from cdal.datasets.batch import Batch
from cdal.datasets.cache import Cases
from cdal.datasets.cases import LAST_KEY, BatchSource, fingerprints
from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import Split
from cdal.inference.torch_engine import TorchEngine
from cdal.recipes.recipe import Recipe
from cdal.runtime.cost import keep_cost, peak_memory
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report, silent
from cdal.runtime.execution import ranks
from cdal.runtime.version import revision
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import CHECKPOINT, MODEL, ModelHeader, read_header
from cdal.segmenters.segmenter import Segmenter
from cdal.training.calibrate import calibrate, some_of
from cdal.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cdal.training.devices import need_same_data, need_shareable
from cdal.training.log import Log, learning_curve
from cdal.training.optimisers import make_optimiser, moving_average
from cdal.training.progress import Step
from cdal.training.start import Start
from cdal.training.steps import Move, RecordedSteps, Steps
from cdal.training.validation import Validation, validate

_MAKERS = 4
"""Number of threads that prepare batches for a GPU.

A GPU needs less time for a step than a thread needs for its batch.
"""

_SHARE = 0.5
"""Share of the time below which a training on the CPU had too little of one processor."""


class Run:
    """The state of a training run, and its loop.

    Args:
        recipe: recipe to train.
        folder: data folder.
        split: cases of each part.
        cases: cases of the parts: training, validation, and test if it is watched.
        digests: checksums of the images of each case.
        out: run folder.
        fabric: device, precision and rank. Rank 0 alone writes.
        report: receives the progress of the calibration after the last step.
        start: model whose weights the run starts from; `None` for random ones.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: DataFolder,
        split: Split,
        cases: Cases,
        digests: dict[str, str],
        out: Path,
        fabric: Fabric,
        report: Report = silent,
        start: Start | None = None,
    ) -> None:
        self.report, self.start = report, start
        self.recipe, self.settings, self.out, self.fabric = recipe, recipe.training, out, fabric
        self.folder, self.split = folder, split
        train_cases, self.place = cases.of(split.train), (fabric.global_rank, fabric.world_size)
        self.test = cases.of(split.test if recipe.training.watch_test else ())
        self.validation = cases.of(some_of(split.validation, self.settings.validation_cases))
        self.classes = folder.classes
        self.licence = start.licence_with(folder.licence) if start else folder.licence
        training = self.settings
        self.source = BatchSource(
            train_cases,
            recipe.data,
            training.batch,
            training.seed,
            training.annotators,
            *self.place,
        )
        of_train, of_both = fingerprints(train_cases, cases.of(split.validation))
        need_same_data(of_both)
        self.data: dict[str, Any] = {
            "name": folder.root.resolve().name,
            **split.names(),
            "fingerprint": of_train,
            "images": digests,
            "axes": train_cases[0].image.dim() - 1,
            **({"from": start.about()} if start else {}),
        }
        self.channels = len(train_cases[0].image)
        self.channel_files = any(len(case.images) > 1 for case in folder.cases)
        torch.manual_seed(self.settings.seed)
        self.segmenter = build_segmenter(
            recipe, self.channels, len(self.classes), training=True
        ).to(fabric.device)
        if start:
            start.need_channels(self.channels)
            start.load_into(self.segmenter, recipe)
        need_shareable(self.segmenter, recipe)
        ranks.start_alike(self.segmenter)
        self.players = self.segmenter.players()
        self.optimisers = {
            name: make_optimiser(player, training, name == self.segmenter.predictor, fabric.device)
            for name, player in self.players.items()
        }
        predictor = self.players[self.segmenter.predictor]
        alone = fabric.world_size == 1
        steps = RecordedSteps if fabric.device.type == "cuda" and alone else Steps
        self.turns = steps(self.segmenter, self.optimisers, self.settings.clip, fabric)
        # Buffers are averaged, too: the statistics of batch normalisation must match the weights.
        self.average = AveragedModel(
            predictor, multi_avg_fn=moving_average(self.settings.ema), use_buffers=True
        )
        fresh = Checkpoint(fingerprint=f"{of_both} {', '.join(self.classes)}")
        self.state = (
            load_checkpoint(out / CHECKPOINT, self.players, self.average, self.optimisers) or fresh
        )
        if self.state.fingerprint != fresh.fingerprint:
            raise UserError(
                f"{out} holds a run on other data or classes. Give the data folder that it started "
                "with, or another --out."
            )
        self.log = Log(out, self.state.step) if fabric.is_global_zero else None
        self.first = self.state.step
        self.revision = revision()
        self.spent = dict.fromkeys(("batch", "turns", "step"), 0.0)
        """Seconds spent on batches, on the players' turns, and on whole steps."""
        self.makers = ThreadPoolExecutor(_MAKERS)
        self.ahead: dict[int, Future[Batch]] = {}
        """Batches that are being prepared, by step."""

    def steps(self) -> Iterator[Step]:
        """Train until the budget is used, and yield the state after each step."""
        state, began, busy = self.state, time.monotonic(), process_time()
        first, earlier = state.step, state.seconds
        while (fraction := self._fraction()) < 1:
            self._set_learning_rates(fraction)
            terms = self._step()
            state.step += 1
            seconds = earlier + time.monotonic() - began
            state.seconds = ranks.of_first(seconds, self.fabric.device)
            new = terms[self.segmenter.predictor]
            state.loss = new if state.loss is None else 0.98 * state.loss + 0.02 * new
            self._add_to_log(terms)
            last = self._fraction() >= 1
            if last or (
                state.step % self.settings.validate_every == 0 and (self.validation or self.test)
            ):
                self._validate(last)
            if last or state.step % self.settings.checkpoint_every == 0:
                self.checkpoint()
            message = self._short_of_time(time.monotonic() - began, process_time() - busy)
            rate = (state.step - first) / max(1e-9, time.monotonic() - began)
            used = min(1.0, self._fraction())  # the last step may end after the minutes
            yield Step(
                "training",
                "",
                used,
                1.0,
                message if last else "",
                state.step,
                self._seconds_left(used, rate),
                rate,
                state.loss,
                state.scores,
            )

    def finish(self) -> None:
        """Calibrate the model, and mark the run as finished; for rank 0 alone."""
        cost = self._cost()
        if self.settings.calibrate and self.validation and (self.out / MODEL).is_file():
            self._calibrate()
        keep_cost(self.out, cost)  # last, because this file marks the run as finished
        if self.log:
            self.log.close()

    def _cost(self) -> dict[str, Any]:
        """What the training cost.

        The model file does not contain it, so that the same training gives the same bytes.
        """
        return {
            "steps": self.state.step,
            "seconds": round(self.state.seconds, 1),
            "peak_memory": peak_memory(),
            "device": str(self.fabric.device),
            "threads": torch.get_num_threads(),
            "ranks": self.fabric.world_size,
            "taken": self.turns.about(),
            "cdal": self.revision,
            "samples_a_second": round(
                (self.state.step - self.first)
                * self.settings.batch
                / max(1e-9, self.spent["step"]),
                3,
            ),
            "share_of_turns": round(self.spent["turns"] / max(1e-9, self.spent["step"]), 4),
            "share_of_batches": round(self.spent["batch"] / max(1e-9, self.spent["step"]), 4),
        }

    def checkpoint(self) -> None:
        """Plot the learning curve, and write everything needed to resume from here.

        The checkpoint is last: a run that is killed before draws the curve again, one that is
        killed after has it.
        """
        if self.log is None:
            return
        self.log.flush()
        learning_curve(self.out)
        save_checkpoint(
            self.out / CHECKPOINT, self.state, self.players, self.average, self.optimisers
        )

    def _fraction(self) -> float:
        """Used fraction of the budget, in steps or in minutes, whichever is larger."""
        settings = self.settings
        by_steps = self.state.step / settings.steps if settings.steps else 0.0
        by_minutes = self.state.seconds / 60 / settings.minutes if settings.minutes else 0.0
        return max(by_steps, by_minutes)

    def _seconds_left(self, used: float, rate: float) -> float:
        by_steps = (
            (self.settings.steps - self.state.step) / rate if self.settings.steps else math.inf
        )
        by_minutes = (
            self.settings.minutes * 60 - self.state.seconds if self.settings.minutes else math.inf
        )
        return max(0.0, min(by_steps, by_minutes)) if used < 1 else 0.0

    def _short_of_time(self, seconds: float, busy: float) -> str:
        """A warning if a budget in minutes went by while others had the processor; else empty.

        Args:
            seconds: time since the start.
            busy: processor time of this process since then.
        """
        share = busy / max(1e-9, seconds)
        if not self.settings.minutes or self.fabric.device.type != "cpu" or share >= _SHARE:
            return ""
        return (
            f"the training had a processor for {share:.0%} of its {seconds / 60:.1f} minutes: "
            f"others use this machine. It reached step {self.state.step}. Give more --minutes, or "
            "--steps, into another --out."
        )

    def _set_learning_rates(self, fraction: float) -> None:
        """Set the learning rates: linear warm-up, then half a cosine down to 1 % of the peak."""
        warmup = self.settings.warmup
        if fraction < warmup:
            factor = (fraction + 1e-3) / (warmup + 1e-3)
        else:
            factor = 0.01 + 0.99 * (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup))) / 2
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(group["peak"] * factor)
                else:
                    group["lr"] = group["peak"] * factor

    def _step(self) -> dict[str, float]:
        """Take all turns of a step and update the averaged weights; returns the numbers to log."""
        step, fabric = self.state.step, self.fabric
        began = time.perf_counter()
        batch = self._next_batch(step)
        batch = batch.with_tensors(lambda tensor: tensor.to(fabric.device))
        batch_ready = time.perf_counter()
        self.spent["batch"] += batch_ready - began
        moves = self.turns(batch, (self.settings.seed, "turns", step, LAST_KEY), step)
        logged = self._logged(moves, batch)  # waits for the GPU
        self.spent["turns"] += time.perf_counter() - batch_ready
        self.average.update_parameters(self.players[self.segmenter.predictor])
        self.spent["step"] += time.perf_counter() - began
        return logged

    def _logged(self, moves: Sequence[Move], batch: Batch) -> dict[str, float]:
        """Losses and their terms by name, means over all ranks, copied from the device at once.

        Raises:
            UserError: a loss or a gradient is not finite.
        """
        named = {
            f"{move.player}/{name}": value for move in moves for name, value in move.terms.items()
        }
        values = [*(move.loss for move in moves), *(move.norm for move in moves), *named.values()]
        stacked = torch.stack([value.float().reshape(()) for value in values])
        numbers = ranks.mean(stacked).tolist()
        losses, norms = numbers[: len(moves)], numbers[len(moves) : 2 * len(moves)]
        for move, loss, norm in zip(moves, losses, norms, strict=True):
            if not math.isfinite(loss) or not math.isfinite(norm):
                names = ranks.gathered(batch.cases)
                raise UserError(self._not_finite(move.player, loss, names))
        by_player = {move.player: loss for move, loss in zip(moves, losses, strict=True)}
        return by_player | dict(zip(named, numbers[2 * len(moves) :], strict=True))

    def _next_batch(self, step: int) -> Batch:
        """The batch of a step. If training is not on the CPU, threads prepare later batches."""
        if self.fabric.device.type == "cpu":
            return self.source(step)
        for upcoming in range(step, step + _MAKERS + 1):
            if upcoming not in self.ahead:
                self.ahead[upcoming] = self.makers.submit(self.source, upcoming)
        return self.ahead.pop(step).result()

    def _not_finite(self, player: str, loss: float, names: Sequence[str]) -> str:
        kept = (
            f"The last good checkpoint is kept in {self.out}. "
            if (self.out / CHECKPOINT).is_file()
            else ""
        )
        return (
            f"step {self.state.step}: the loss of {player} is {loss} or its gradient is not "
            f"finite, on the cases {', '.join(names)}. {kept}Look at these cases; or train "
            "with --training.precision 32, or a lower --training.learning_rate, into another "
            "--out."
        )

    def _validate(self, last: bool) -> None:
        """Score the averaged weights, and write them if they are the best so far.

        Without validation cases, the last weights become the model file.
        """
        engine = TorchEngine(self._averaged(), self.recipe)
        if self.test:
            scores = validate(engine, self.test, self.classes, self.recipe, *self.place)
            self._log_scores("test", scores)
        if not self.validation:
            if last:
                self._save_averaged()
            return
        state = self.state
        scores = validate(engine, self.validation, self.classes, self.recipe, *self.place)
        state.scores = scores.dice
        self._log_scores("validation", scores)
        if scores.rank > state.best:
            state.best = scores.rank
            self._save_averaged()

    def _log_scores(self, part: str, scores: Validation) -> None:
        """Log the Dice of each class and their mean, and the energy score if there is one."""
        by_class = {f"{part}/{name}": value for name, value in scores.dice.items()}
        energy = {} if scores.energy is None else {f"energy_score/{part}": scores.energy}
        self._add_to_log({part: scores.mean} | by_class | energy)

    def _add_to_log(self, values: Mapping[str, float]) -> None:
        if self.log:
            self.log.add(self.state.step, values)

    def _save_averaged(self) -> None:
        """Write the averaged weights as the model file."""
        if not self.fabric.is_global_zero:
            return
        state = self.state
        header = ModelHeader(
            self.recipe,
            self.classes,
            self.channels,
            state.step,
            state.scores,
            self.data,
            self.licence,
            training_images=self.start.header.training_images if self.start else {},
            channel_files=self.channel_files,
        )
        save_model(self.out / MODEL, self.average.module.state_dict(), header)

    def _calibrate(self) -> None:
        """Calibrate the weights in the model file, unless that was done before."""
        model = self.out / MODEL
        if not read_header(model).quality:
            trained_on = (*self.split.train, *self.split.validation)
            cases, device = self.split.validation, self.fabric.device.type
            calibrate(model, model, self.folder, cases, trained_on, None, device, self.report)

    def _averaged(self) -> Segmenter:
        """A segmenter with the averaged weights, in evaluation mode."""
        segmenter = build_segmenter(self.recipe, self.channels, len(self.classes)).to(
            self.fabric.device
        )
        segmenter.players()[segmenter.predictor].load_state_dict(self.average.module.state_dict())
        return segmenter.eval()
