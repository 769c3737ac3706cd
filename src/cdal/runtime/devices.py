"""Choice of the device to compute on, its precision, and repeatable results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cdal.runtime.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(name: str) -> torch.device:
    """The device with that name; `auto` is CUDA or Metal if available, else the CPU.

    Raises:
        UserError: the name is unknown, or PyTorch finds no such device.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if name not in available:
        raise UserError(f"no device {name!r}. Expected one of {', '.join(DEVICES)}.")
    if not available[name]:
        raise UserError(
            f"PyTorch finds no {name} device here. Use --device cpu, or install PyTorch for your "
            "driver."
        )
    return torch.device(name)


def native_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions.

    On a CPU without them, bf16 is slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # PyTorch has no public query for processor instructions. If these private names disappear,
    # the answer is False, and float32 is used.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether networks compute in bf16 on a device, given a recipe's `training.precision`."""
    return precision == "bf16" or (precision == "auto" and native_bf16(device))


@contextmanager
def repeatable(device: torch.device, gradients: bool = False) -> Iterator[None]:
    """Make a GPU give bit-identical results in full float32 precision inside the block.

    By default PyTorch computes float32 convolutions with the 10-bit mantissa of TF32. It also
    chooses the fastest algorithms for convolutions and for the gradient of attention, even if they
    sum in a different order each time. The previous settings are restored at the end. Other devices
    are repeatable without this.

    Args:
        device: device that computes.
        gradients: whether gradients are computed too. Attention then needs more memory.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    convolutions = cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=True, allow_tf32=False
    )
    with convolutions, sdpa_kernel(SDPBackend.MATH) if gradients else nullcontext():
        yield
