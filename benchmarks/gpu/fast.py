"""The step *fast*: cost of segmentation and of training steps on this device, with profiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import Record
from steps import built, free, training_of, training_step
from torch.profiler import ProfilerActivity, profile

from cdal.datasets.cases import BatchSource, Case
from cdal.experiments.speed.inference import segment
from cdal.experiments.speed.run import bench
from cdal.experiments.speed.timing import interleaved
from cdal.inference.torch_engine import TorchEngine
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe, override
from cdal.runtime.devices import repeatable
from cdal.runtime.seeds import generator
from cdal.segmenters.diffusion.cdal import CDAL

SYSTEMS = (
    "cdal",
    "cdal-paper",
    "cdal-deterministic",
    "cdal-unet",
    "unet",
    "unet-3d",
    "dynunet",
    "medt",
    "segdiff",
)

SHAPES: dict[str, tuple[int, ...]] = {"hippocampus": (1, 40, 56, 40), "monuseg": (3, 256, 256)}

STEPS: dict[str, tuple[int, ...]] = {
    "hippocampus": (1, 40, 56, 40),
    "monuseg": (3, 256, 256),
    "cxr": (1, 256, 256),
    "hippocampus-paper": (1, 32, 32),
    "monuseg-paper": (3, 256, 256),
    "cxr-paper": (1, 256, 256),
}
"""Shape of a patch, by recipe, for the recipes whose training steps are timed."""

VOTES = 15


def run(record: Record, name: str, device: str, tiny: bool, seconds: float) -> None:
    """Run all parts, the most important ones first."""
    deadline = time.monotonic() + seconds
    rounds = 1 if tiny else 3
    batches = (1,) if tiny else (1, 4, 16)
    shapes = {"hippocampus": (1, 16, 16, 16)} if tiny else SHAPES
    steps = shapes if tiny else STEPS
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        **{
            f"training step: {recipe}": lambda recipe=recipe: training_step(
                recipe, steps[recipe], rounds, device, tiny
            )
            for recipe in steps
        },
        **{
            f"batches and graphs: {recipe}": lambda recipe=recipe: batches_and_graphs(
                recipe, shapes[recipe], batches, rounds, device, tiny
            )
            for recipe in shapes
        },
        **{
            f"profile: {recipe}": lambda recipe=recipe: profiled(
                segmenting(recipe, shapes[recipe], device, tiny), device
            )
            for recipe in shapes
        },
        "profile: training, hippocampus": lambda: profiled(
            training_of("hippocampus", shapes, device, tiny), device
        ),
        "batches made on the CPU": lambda: batch_making(rounds),
        "prediction that repeats itself": lambda: exactness(shapes, rounds, device, tiny),
        "bench: training": lambda: (
            bench(("training",), device=device, rounds=rounds).to_dict() if not tiny else {}
        ),
        **{
            f"bench: {task}": lambda task=task: benched(task, rounds, device, tiny)
            for task in ("volume", "tile", "x-ray", "picture")
        },
        "torch.compile": lambda: (
            compiled("hippocampus", shapes["hippocampus"], rounds, device) if not tiny else {}
        ),
    }
    record.expect(parts)
    for part, call in parts.items():
        if time.monotonic() > deadline and not tiny:
            print(f"[{part}] no time left", flush=True)
            continue
        record.part(part, call)
        free(device)


def benched(task: str, rounds: int, device: str, tiny: bool) -> dict[str, Any]:
    """Run `cdal bench` on one task; skipped in a rehearsal, because its own tests cover it."""
    return {} if tiny else bench((task,), SYSTEMS, device=device, rounds=rounds).to_dict()


def drawn(
    segmenter: CDAL, recipe: Recipe, image: torch.Tensor, votes: int, bf16: bool
) -> Callable[[], torch.Tensor]:
    """A function that draws noise and segments the image."""
    random = generator(0, device=image.device)

    def call() -> torch.Tensor:
        with (
            torch.no_grad(),
            repeatable(image.device),
            torch.autocast(image.device.type, torch.bfloat16, enabled=bf16),
        ):
            return segmenter.sample(image, votes, random)

    return call


def replayed(
    segmenter: CDAL, image: torch.Tensor, votes: int, bf16: bool
) -> Callable[[], torch.Tensor]:
    """The function of `drawn` as a CUDA graph.

    Noise is drawn into the inputs of the graph; one launch does the rest.
    """
    random = generator(0, device=image.device)
    with (
        torch.no_grad(),
        repeatable(image.device),
        torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False),
    ):
        draws, root = segmenter.draw(image, votes, random), segmenter.generator.noise_root()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                segmenter.segment(image, draws, root)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            segmented = segmenter.segment(image, draws, root)

    def call() -> torch.Tensor:
        draws.noise.normal_(generator=random)
        draws.z.normal_(generator=random)
        graph.replay()
        return segmented

    return call


def batches_and_graphs(
    name: str,
    shape: tuple[int, ...],
    batches: tuple[int, ...],
    rounds: int,
    device: str,
    tiny: bool,
) -> dict[str, Any]:
    """Time of a batch of images with 15 votes in milliseconds: float32, bf16, and as a CUDA graph.

    Images and results stay on the device.
    """
    segmenter, recipe = built(name, shape[0], device)
    segmenter = segmenter.eval()
    rows = []
    for batch in batches:
        image = torch.randn(batch, *shape, device=device)
        if len(shape) == 3:
            segmenter = segmenter.to(memory_format=torch.channels_last)
            image = image.contiguous(memory_format=torch.channels_last)
        calls = {"float32": drawn(segmenter, recipe, image, VOTES, False)}
        if not tiny:
            calls["bf16"] = drawn(segmenter, recipe, image, VOTES, True)
        if device == "cuda":
            calls["bf16, CUDA graph"] = replayed(segmenter, image, VOTES, True)
        taken = interleaved(calls, rounds, device=device)
        rows.append(
            {"batch": batch, **{f"{kind} ms": 1000 * value for kind, value in taken.items()}}
        )
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            calls["bf16"]()
            rows[-1]["GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return {"votes": VOTES, "rows": rows}


def compiled(name: str, shape: tuple[int, ...], rounds: int, device: str) -> dict[str, Any]:
    """Time of one image with 15 votes in bf16: uncompiled, and compiled in two modes.

    The time of the first call, in seconds, is given as well.
    """
    segmenter, _ = built(name, shape[0], device)
    segmenter = segmenter.eval()
    image = torch.randn(1, *shape, device=device)
    random = generator(0, device=device)
    rows = {}
    with torch.no_grad(), repeatable(image.device), torch.autocast(device, torch.bfloat16):
        draws, root = segmenter.draw(image, VOTES, random), segmenter.generator.noise_root()
        calls = {"as it is": segmenter.segment}
        for mode in ("default", "reduce-overhead"):
            calls[f"torch.compile, {mode}"] = torch.compile(
                segmenter.segment, mode=mode, dynamic=False
            )
        for kind, function in calls.items():
            began = time.monotonic()
            function(image, draws, root)
            if device == "cuda":
                torch.cuda.synchronize()
            first = time.monotonic() - began
            taken = interleaved(
                {kind: lambda function=function: function(image, draws, root)},
                rounds,
                device=device,
            )
            rows[kind] = {"ms": 1000 * taken[kind], "first call s": first}
    return rows


def segmenting(name: str, shape: tuple[int, ...], device: str, tiny: bool) -> Callable[[], object]:
    """A function that segments one image, as a prediction does."""
    segmenter, recipe = built(name, shape[0], device)
    if tiny:
        recipe = override(recipe, {"training.precision": "32"})
    engine = TorchEngine(segmenter.eval(), recipe)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return lambda: segment(engine, image, recipe, VOTES)


def profiled(call: Callable[[], object], device: str) -> dict[str, Any]:
    """Profile a function: its most expensive operations, and the share of time the device works."""
    repeats = 5 if device == "cuda" else 1
    for _ in range(min(3, repeats)):
        call()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    wall = (time.perf_counter() - began) / repeats
    with profile(
        activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    ) as profiler:
        for _ in range(repeats):
            call()
    events = profiler.key_averages()
    own_time = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    ordered = sorted(events, key=lambda event: getattr(event, own_time), reverse=True)
    kernels = [event for event in events if str(event.device_type).endswith("CUDA")]
    return {
        "wall ms": 1000 * wall,
        "device ms": sum(event.self_device_time_total for event in kernels) / 1000 / repeats,
        "kernels": sum(event.count for event in kernels) / repeats,
        "operations": [
            {
                "name": event.key[:80],
                "ms": getattr(event, own_time) / 1000 / repeats,
                "calls": event.count / repeats,
            }
            for event in ordered[:15]
        ],
    }


def exactness(
    shapes: dict[str, tuple[int, ...]], rounds: int, device: str, tiny: bool
) -> dict[str, Any]:
    """Cost of repeatable operations and full float32 in prediction: time of the network in ms."""
    rows = {}
    for name, shape in shapes.items():
        segmenter, _ = built(name, shape[0], device)
        segmenter, image, random = (
            segmenter.eval(),
            torch.randn(4, *shape, device=device),
            generator(0, device=device),
        )

        def call(
            exact: bool,
            bf16: bool,
            segmenter: Any = segmenter,
            image: Any = image,
            random: Any = random,
        ) -> Callable[[], Any]:
            def inner() -> torch.Tensor:
                setting = (
                    repeatable(torch.device(device))
                    if exact
                    else torch.backends.cudnn.flags(enabled=True)
                )
                with torch.no_grad(), setting, torch.autocast(device, torch.bfloat16, enabled=bf16):
                    return segmenter.sample(image, VOTES, random)

            return inner

        calls = {"float32": call(True, False), "TF32, any order": call(False, False)}
        if not tiny:
            calls |= {"bf16": call(True, True), "bf16, any order": call(False, True)}
        rows[name] = {
            kind: 1000 * value for kind, value in interleaved(calls, rounds, device=device).items()
        }
    return rows


def batch_making(rounds: int) -> dict[str, Any]:
    """Time to make one training batch on the CPU, in milliseconds."""
    rows = {}
    for name, (shape, classes) in {
        "hippocampus": ((1, 42, 58, 42), 3),
        "cxr": ((1, 256, 256), 2),
        "monuseg": ((3, 512, 512), 2),
    }.items():
        recipe = find_recipe(name)
        rng = np.random.default_rng(0)
        image = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
        label = torch.from_numpy(rng.integers(classes, size=(1, *shape[1:])).astype(np.uint8))
        source = BatchSource([Case("case", image, label)], recipe.data, recipe.training.batch, 0)
        numbers = iter(range(10**6))
        rows[name] = (
            1000
            * interleaved(
                {name: lambda source=source, numbers=numbers: source(next(numbers))}, rounds
            )[name]
        )
    return rows
