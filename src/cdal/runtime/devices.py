"""Which device to compute on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cdal.runtime.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA or Metal where there is one, else the CPU.

    Raises:
        UserError: the name is unknown, or PyTorch finds no such device here.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if name not in there:
        raise UserError(f"no device {name!r}. Expected one of {', '.join(DEVICES)}.")
    if not there[name]:
        raise UserError(f"PyTorch finds no {name} device here. Use --device cpu, or install PyTorch for your driver.")
    return torch.device(name)


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 by itself. On a CPU without the instructions bf16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # PyTorch tells of no processor instructions in public; where these names are gone, float32 is taken.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether networks compute in bf16 on a device, for a recipe's `training.precision`."""
    return precision == "bf16" or (precision == "auto" and native_bf16(device))


@contextmanager
def repeatable(device: torch.device, gradients: bool = False) -> Iterator[None]:
    """While it lasts, a GPU gives the same bytes each time, and float32 is float32; on other devices it is so anyway.

    By itself PyTorch computes float32 convolutions in the 10 bits of TF32, and takes the fastest algorithms for convolutions and
    for the gradient of attention, whether they add up in the same order each time or not. The settings before are restored.

    Args:
        device: on which is computed.
        gradients: whether gradients are, which takes attention more memory.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    convolutions = cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=True, allow_tf32=False)
    with convolutions, sdpa_kernel(SDPBackend.MATH) if gradients else nullcontext():
        yield
