"""Speed of this machine, the reference for the other measurements."""

from __future__ import annotations

import math
from typing import Any

import torch

from cdal.experiments.speed.timing import Row, interleaved
from cdal.runtime.devices import native_bf16
from cdal.segmenters.diffusion.blocks import convolution

_LARGER = 16
"""Factor by which measurements on a GPU are larger than on a CPU; smaller ones leave it idle."""

_MATRIX, _COPIED = 2048, 2**26
_CONVOLUTIONS = (
    (2, (8, 64, 64, 64)),
    (2, (8, 128, 64, 64)),
    (2, (8, 256, 32, 32)),
    (3, (2, 64, 20, 28, 20)),
    (3, (2, 128, 10, 14, 10)),
)


def dtypes(device: str) -> tuple[torch.dtype, ...]:
    """The precisions that are measured on a device."""
    return (
        (torch.float32, torch.bfloat16) if native_bf16(torch.device(device)) else (torch.float32,)
    )


def machine(rounds: int, device: str) -> list[Row]:
    """Measure a matrix product, convolutions of width 3 in 2D and 3D, and a copy in each precision.

    Of the convolutions, the best 2D and the best 3D one are reported.
    """
    rows = []
    larger = _LARGER if device == "cuda" else 1
    side = _MATRIX * math.isqrt(larger)
    convolutions = [(dims, (larger * batch, *shape)) for dims, (batch, *shape) in _CONVOLUTIONS]
    for dtype in dtypes(device):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        large = torch.empty(_COPIED * math.isqrt(larger), device=device, dtype=dtype)
        target = torch.empty_like(large)
        functions: dict[str, Any] = {
            "matrix": lambda a=a, b=b: a @ b,
            "copy": lambda x=large, y=target: y.copy_(x),
        }
        work: dict[str, float] = {
            "matrix": 2 * side**3,
            "copy": 2 * large.numel() * large.element_size(),
        }
        for dims, shape in convolutions:
            layer = convolution(dims, shape[1], shape[1], bias=False).to(device, dtype)
            x = torch.randn(shape, device=device, dtype=dtype)
            if dims == 2:
                layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                x = x.to(memory_format=torch.channels_last)
            name = f"{dims}D {shape}"
            functions[name] = lambda layer=layer, x=x: layer(x)
            work[name] = 2 * x.numel() * shape[1] * 3**dims
        with torch.no_grad():
            taken = interleaved(functions, rounds, device=device)
        rate = {name: work[name] / taken[name] / 1e9 for name in functions}
        best = {
            dims: max(rate[f"{dims}D {shape}"] for d, shape in convolutions if d == dims)
            for dims in (2, 3)
        }
        rows.append(
            {
                "precision": name_of(dtype),
                "matrix product GFLOP/s": rate["matrix"],
                "best 2D convolution GFLOP/s": best[2],
                "best 3D convolution GFLOP/s": best[3],
                "copy GB/s": rate["copy"],
            }
        )
    return rows


def best_convolution(rows: list[Row], precision: str, dims: int) -> float:
    """GFLOP/s of the best convolution, from the rows of `machine`."""
    return next(
        row[f"best {dims}D convolution GFLOP/s"] for row in rows if row["precision"] == precision
    )


def name_of(dtype: torch.dtype) -> str:
    """Name of a precision in reports."""
    return "bf16" if dtype == torch.bfloat16 else "float32"
