"""How the cost grows with votes, steps, size, batch, threads and processes."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cdal.experiments.speed.inference import segment
from cdal.experiments.speed.machine import best_convolution, dtypes, name_of
from cdal.experiments.speed.timing import Row, gigaflops, interleaved, threads
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.windows import VOXELS_AT_ONCE
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.fast import ImageUNet

_VOTES, _STEPS, _SIDES, _BATCHES = (1, 2, 5, 10, 15), (1, 2, 4), (128, 256, 512), (1, 2, 4, 8)


def growth(rounds: int, device: str) -> list[Row]:
    """Time of `cdal` for several numbers of votes V and steps T, picture sizes and CPU settings.

    V and T vary on a volume, the side on pictures. On a CPU, the volume is also measured for
    several numbers of threads and of processes.
    """
    rows: list[Row] = []
    volume = np.random.default_rng(0).normal(size=(1, 40, 56, 40)).astype(np.float32)
    runs: dict[str, Any] = {}
    for T in _STEPS:
        engine, recipe = _cdal("hippocampus", 1, 3, T, device)
        for V in _VOTES:
            runs[f"{T} {V}"] = _call(engine, volume, recipe, V)
    taken = interleaved(runs, rounds, device=device)
    rows += [
        {"of": "a volume", "V": V, "T": T, "seconds": taken[f"{T} {V}"]}
        for T in _STEPS
        for V in _VOTES
    ]
    engine, recipe = _cdal("monuseg", 3, 2, 2, device)
    runs = {}
    for side in _SIDES:
        data = replace(recipe.data, size=(side, side))
        picture = np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)
        runs[str(side)] = _call(engine, picture, replace(recipe, data=data), 5)
    taken = interleaved(runs, rounds, device=device)
    rows += [
        {"of": f"a picture of {side} x {side}", "V": 5, "T": 2, "seconds": taken[str(side)]}
        for side in _SIDES
    ]
    if device == "cpu":
        engine, recipe = _cdal("hippocampus", 1, 3, 2, device)
        for count in sorted({1, torch.get_num_threads()}):
            with threads(count):
                seconds = interleaved({"": _call(engine, volume, recipe, 5)}, rounds)[""]
            rows.append({"of": "a volume", "V": 5, "T": 2, "threads": count, "seconds": seconds})
        for processes in sorted({1, torch.get_num_threads()}):
            rows.append(
                {
                    "of": "a volume",
                    "V": 5,
                    "T": 2,
                    "threads": 1,
                    "processes": processes,
                    "seconds": _processes(processes),
                }
            )
    return rows


def model_of_cost(rows: list[Row]) -> Row:
    """Least-squares fit of seconds = encoder + V T denoiser to the volumes of `growth`."""
    fitted = [row for row in rows if row["of"] == "a volume" and "threads" not in row]
    x, y = (
        np.array([row["V"] * row["T"] for row in fitted]),
        np.array([row["seconds"] for row in fitted]),
    )
    slope, offset = np.polyfit(x, y, 1)
    explained = 1 - ((y - slope * x - offset) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return {
        "encoder s": offset,
        "denoiser s": slope,
        "ratio": slope / offset,
        "variance explained": explained,
    }


def encoder(machine: list[Row], rounds: int, device: str) -> list[Row]:
    """GFLOP/s of the image network on 256 x 256 pictures for several batch sizes.

    They are also given as a share of this machine's best convolution. As in prediction, a batch is
    processed in chunks of at most `VOXELS_AT_ONCE[2]` voxels.
    """
    channels = find_recipe("monuseg").segmenter.channels  # type: ignore[attr-defined]
    torch.manual_seed(0)
    network = ImageUNet(2, 3, 1, channels).to(device).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    at_once = max(1, VOXELS_AT_ONCE[2] // 256**2)
    rows = []
    for dtype in dtypes(device):
        runs: dict[str, Any] = {}
        for batch in _BATCHES:
            images = torch.randn(batch, 3, 256, 256, device=device).to(
                memory_format=torch.channels_last
            )

            def run(images: torch.Tensor = images, dtype: torch.dtype = dtype) -> None:
                with (
                    torch.no_grad(),
                    torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16),
                ):
                    for chunk in images.split(at_once):
                        network(chunk)

            runs[str(batch)] = run
        taken = interleaved(runs, rounds, device=device)
        for batch in _BATCHES:
            rate = gigaflops(runs[str(batch)]) / taken[str(batch)]
            share = rate / best_convolution(machine, name_of(dtype), 2)
            row = {"batch": batch, "precision": name_of(dtype), "seconds": taken[str(batch)]}
            rows.append({**row, "GFLOP/s": rate, "of best convolution": share})
    return rows


def _cdal(
    name: str, channels: int, classes: int, timesteps: int, device: str
) -> tuple[TorchEngine, Recipe]:
    recipe = find_recipe(name)
    recipe = replace(recipe, segmenter=replace(recipe.segmenter, sampling_timesteps=timesteps))  # type: ignore[call-arg]
    torch.manual_seed(0)
    return TorchEngine(build_segmenter(recipe, channels, classes).to(device).eval(), recipe), recipe


def _call(engine: TorchEngine, image: np.ndarray, recipe: Recipe, votes: int) -> Any:
    return lambda: segment(engine, image, recipe, votes)


_REPEATS = 20


def _processes(count: int) -> float:
    """Seconds per volume of `count` parallel processes with one thread each."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        pool.map(_warm_up, range(count), chunksize=1)
        return max(pool.map(_work, range(count), chunksize=1)) / count


def _warm_up(_: int) -> None:
    torch.set_num_threads(1)
    time.sleep(1)  # so that each process gets one of these calls


def _work(_: int) -> float:
    torch.set_num_threads(1)
    engine, recipe = _cdal("hippocampus", 1, 3, 2, "cpu")
    volume = np.random.default_rng(0).normal(size=(1, 40, 56, 40)).astype(np.float32)
    for _warm in range(2):
        segment(engine, volume, recipe, 5)
    began = time.perf_counter()
    for _repeat in range(_REPEATS):
        segment(engine, volume, recipe, 5)
    return (time.perf_counter() - began) / _REPEATS
