"""A description of this machine: processor, threads, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from cdal.runtime.devices import native_bf16


def about(device: str) -> dict[str, Any]:
    """Processor, cores, threads, device, native bf16 and PyTorch version, for reports."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    if device == "cuda":
        name = torch.cuda.get_device_name()
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "native_bf16": native_bf16(torch.device(device)),
        "torch": torch.__version__,
    }
