"""Effect of single optimisations on the speed, before and after, as Markdown tables of medians.

    python benchmarks/levers.py

The first table has the image U-Net (16-32-64-128). It compares PyTorch's instance normalisation
with group normalisation of one channel per group, in several memory formats and precisions. Times
are for a forward pass, and for a forward and a backward pass. The other tables have single
operations.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.experiments.speed.timing import interleaved
from cdal.runtime.memory import keep_freed_memory
from cdal.segmenters.diffusion.fast import ImageUNet

PICTURES, VOLUME = (2, (8, 3, 256, 256)), (3, (2, 1, 40, 56, 40))
FORMATS = {
    2: {"contiguous": torch.contiguous_format, "channels last": torch.channels_last},
    3: {"contiguous": torch.contiguous_format},
}


def with_instance_norm(network: nn.Module, dims: int) -> nn.Module:
    """Replace group normalisation by PyTorch's instance normalisation, as it was before."""
    kind = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, kind(child.num_channels, affine=True))
    return network


def passes(
    network: nn.Module, image: Tensor, bf16: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Two functions: a forward pass, and a forward pass with its backward pass."""

    def forward() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(image)

    def both() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(image)
        logits.float().square().mean().backward()

    return forward, both


def networks(rounds: int) -> None:
    """Print the first table."""
    print(
        "| ms, forward / with backward | instance, contiguous | groups, contiguous | groups, "
        "channels last |",
        "|---|---|---|---|",
        sep="\n",
    )
    for dims, shape in (PICTURES, VOLUME):
        for bf16 in (False, True):
            calls: dict[str, Callable[[], object]] = {}
            for norm in ("instance", "groups"):
                for name, memory_format in FORMATS[dims].items():
                    torch.manual_seed(0)
                    network = ImageUNet(dims, shape[1], 3, (16, 32, 64, 128))
                    network = network if norm == "groups" else with_instance_norm(network, dims)
                    network = network.to(memory_format=memory_format)
                    forward, both = passes(
                        network, torch.randn(shape).to(memory_format=memory_format), bf16
                    )
                    calls |= {f"{norm}, {name}": forward, f"{norm}, {name} back": both}
            taken = interleaved(calls, rounds)
            cells = [
                f"{1000 * taken[key]:.0f} / {1000 * taken[f'{key} back']:.0f}"
                if key in taken
                else ""
                for key in ("instance, contiguous", "groups, contiguous", "groups, channels last")
            ]
            print(
                f"| {' x '.join(map(str, shape))}, {'bf16' if bf16 else 'float32'} | "
                + " | ".join(cells)
                + " |",
                flush=True,
            )


def operations(rounds: int) -> Mapping[str, float]:
    """Time of single operations in milliseconds, most on eight tiles of 16 channels in bf16."""
    x = torch.randn(8, 16, 256, 256, dtype=torch.bfloat16)
    calls = {
        "SiLU": lambda: F.silu(x, inplace=True),
        "leaky ReLU": lambda: F.leaky_relu(x, 0.01, inplace=True),
        "a million random numbers": lambda: torch.randn(10**6),
        "a new tensor of 32 MiB": lambda: torch.ones(2**23),
    }
    with torch.no_grad():
        return {name: 1000 * value for name, value in interleaved(calls, rounds).items()}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--operations", action="store_true", help="measure only the single operations"
    )
    options = parser.parse_args()
    if os.environ.get("KEEP"):
        keep_freed_memory()
    if options.operations:
        for name, value in operations(options.rounds).items():
            print(f"| {name} | {value:.2f} |")
        return
    networks(options.rounds)
    for keep in ("", "1"):
        print(
            f"\n| single operations, freed memory {'kept' if keep else 'given back'} | ms |",
            "|---|---|",
            sep="\n",
            flush=True,
        )
        subprocess.run(
            [sys.executable, __file__, "--operations"], env={**os.environ, "KEEP": keep}, check=True
        )


if __name__ == "__main__":
    main()
