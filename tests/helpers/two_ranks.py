"""Two ranks of one thread each, as torchrun would start them; and systems on both.

`python -m helpers.two_ranks` is one rank: it prints, for each system, how far the weights are from
those of one process after some steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_fabric.plugins.environments.lightning import find_free_network_port

STEPS = 2
SYSTEMS = (
    *("cdal", "cdal-paper", "unet", "res-unet", "mc-dropout", "prob-unet", "ssn"),
    *("segdiff-small", "multi-segcaps", "medt"),
)
"""All with draws or losses of their own, and the one with batch normalisation."""


def start_ranks(words: Sequence[str], count: int = 2, **variables: str) -> list[subprocess.Popen]:
    """Start `python -m WORDS` once for each rank, with the variables of torchrun."""
    port = str(find_free_network_port())
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    started = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        environment = {**os.environ, "PYTHONPATH": paths, **shared, **variables}
        environment |= {name: str(value) for name, value in own.items()}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", *words],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ends(started: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each rank."""
    try:
        outputs = [process.communicate(timeout=500) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


def _compare() -> None:
    import torch
    from lightning_fabric import Fabric

    from cdal.datasets.batch import Batch
    from cdal.runtime.errors import UserError
    from cdal.segmenters.build import build_segmenter
    from cdal.training.devices import need_shareable, together
    from cdal.training.optimisers import make_optimiser
    from cdal.training.steps import Steps
    from helpers.recipes import small_recipe
    from helpers.systems import random_batch, small

    recipes = {system: small("phantoms", system) for system in SYSTEMS}

    def weights(system: str, fabric: Fabric) -> torch.Tensor:
        recipe, rank = recipes[system], fabric.global_rank
        whole, size = random_batch(recipe, 3, 4), 4 // fabric.world_size
        part = slice(rank * size, (rank + 1) * size)
        batch = Batch(whole.image[part], whole.label[part], whole.cases[part])
        torch.manual_seed(0)
        segmenter = build_segmenter(recipe, 1, 3, training=True)
        need_shareable(segmenter, recipe)
        optimisers = {
            name: make_optimiser(player, recipe.training, True, fabric.device)
            for name, player in segmenter.players().items()
        }
        take = Steps(segmenter, optimisers, recipe.training.clip, fabric)
        for step in range(STEPS):
            take(batch, (0, "turns", step, 0), step)
        return torch.cat([w.detach().flatten() for w in segmenter.parameters()])

    torch.set_num_threads(1)
    first, one = os.environ["RANK"] == "0", Fabric(accelerator="cpu")
    alone = {system: weights(system, one) for system in SYSTEMS[:-1] if first}
    found: dict[str, float | str] = {}
    with together(small_recipe(), "cpu", 2, 1, Path("none")) as fabric:
        for system in SYSTEMS[:-1]:
            shared = weights(system, fabric)
            found[system] = float((shared - alone.get(system, shared)).abs().max())
        try:
            weights(SYSTEMS[-1], fabric)
        except UserError as error:
            found[SYSTEMS[-1]] = str(error)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _compare()
