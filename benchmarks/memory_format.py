"""Seconds of the image U-Net with contiguous and with channels_last tensors, as a Markdown table of medians.

python benchmarks/memory_format.py
"""

from __future__ import annotations

import statistics
import time

import torch

from cdal.diffusion.fast import ImageUNet

CASES = ((2, (256, 256)), (3, (40, 56, 40)))
FORMATS = {"contiguous": (torch.contiguous_format,) * 2, "channels_last": (torch.channels_last, torch.channels_last_3d)}
RUNS = 5


def seconds(dims: int, size: tuple[int, ...], memory_format: torch.memory_format, bf16: bool) -> str:
    """Medians of forward, and of forward and backward, for a batch of 2."""
    torch.manual_seed(0)
    network = ImageUNet(dims, 1, 3, (16, 32, 64, 128)).to(memory_format=memory_format)
    image = torch.randn(2, 1, *size).to(memory_format=memory_format)
    forward, both = [], []
    for _ in range(RUNS):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            began = time.perf_counter()
            with torch.no_grad():
                network(image)
            forward.append(time.perf_counter() - began)
            began = time.perf_counter()
            logits = network(image)
        logits.float().square().mean().backward()
        both.append(time.perf_counter() - began)
    return f"{statistics.median(forward):.3f} / {statistics.median(both):.3f}"


def main() -> None:
    """Measure each case in every format."""
    torch.set_num_threads(1)
    print("| | " + " | ".join(FORMATS) + " |", "|---|" + "---|" * len(FORMATS), sep="\n")
    for dims, size in CASES:
        for bf16 in (False, True):
            name = f"{dims}D, {' x '.join(map(str, size))}, {'bf16' if bf16 else 'float32'}"
            cells = [seconds(dims, size, by_dims[dims - 2], bf16) for by_dims in FORMATS.values()]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
