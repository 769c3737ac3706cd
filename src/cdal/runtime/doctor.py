"""What this machine has, what cDAL will use of it, and what would make it faster.

The answer names no file, user or host, so that it can be pasted into a public report.
"""

from __future__ import annotations

import platform
import re
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cdal.runtime.devices import DEVICES, find_device, native_bf16
from cdal.runtime.errors import UserError
from cdal.runtime.machine import about
from cdal.runtime.memory import free_memory
from cdal.runtime.threads import allowed_threads, thread_count
from cdal.runtime.version import revision

_PACKAGE = "cdal"
_FOR_DEVELOPERS = "dev"
_DRIVER = Path("/proc/driver/nvidia/version")
_LITTLE_MEMORY = 4 * 2**30


def examine() -> dict[str, Any]:
    """Versions, devices, memory and extras; what will be used; and advice, one line each."""
    chosen = find_device("auto")
    threads, allowed = thread_count(), allowed_threads()
    free = free_memory()
    values: dict[str, Any] = {
        "cdal": revision(),
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "devices": _devices(),
        "processor": about("cpu")["processor"],
        "threads": f"{threads} of {allowed} that this process may use",
        "memory": "unknown" if free is None else f"{free / 2**30:.1f} GiB free",
        "will_use": {
            "device": chosen.type,
            "precision of training": "bf16" if native_bf16(chosen) else "float32",
            "threads": threads,
        },
        "versions": _versions(),
        "extras": _extras(),
    }
    return {**values, "advice": _advice(chosen, threads, allowed, free)}


def _devices() -> dict[str, str]:
    """Each kind of device that PyTorch finds, with its name and memory."""
    found = {}
    for name in DEVICES[1:]:
        try:
            find_device(name)
        except UserError:
            continue
        found[name] = name
        if name == "cuda":
            each = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
            found[name] = ", ".join(f"{p.name} ({p.total_memory / 2**30:.0f} GiB)" for p in each)
        elif name == "cpu":
            bf16 = "with" if native_bf16(torch.device("cpu")) else "without"
            found[name] = f"{bf16} bf16 instructions"
    return found


def _versions() -> dict[str, str]:
    """Version of each library that the package needs."""
    return {name: _version(name) for name in _needed()[""]}


def _extras() -> dict[str, str]:
    """Each extra: that it is installed, or the words that install it."""
    extras = {}
    for extra, libraries in _needed().items():
        if extra in ("", _FOR_DEVELOPERS):
            continue
        missing = [name for name in libraries if not _version(name)]
        extras[extra] = f"missing {', '.join(missing)}: pip install 'cdal[{extra}]'"
        if not missing:
            extras[extra] = ", ".join(f"{name} {_version(name)}" for name in libraries)
    return extras


def _needed() -> dict[str, list[str]]:
    """Libraries by extra, in the order of the package's description; "" are those always needed."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    try:
        lines = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # run from its source
        lines = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"""extra == ["']([\w-]+)["']""", line)
        if name:
            found[extra[1] if extra else ""].append(name[0])
    return found


def _version(library: str) -> str:
    """Installed version of a library; empty if it is missing."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _advice(chosen: torch.device, threads: int, allowed: int, free: int | None) -> list[str]:
    """What would make this machine faster, or a later error likely."""
    advice = []
    if chosen.type == "cpu" and _DRIVER.is_file():
        advice.append(
            "There is an NVIDIA driver, but PyTorch finds no GPU: this PyTorch "
            f"({torch.__version__}) may be built for the CPU. Install a build for CUDA."
        )
    if threads < allowed:
        advice.append(
            f"OMP_NUM_THREADS limits cDAL to {threads} of {allowed} threads. Unset it to use all."
        )
    if free is not None and free < _LITTLE_MEMORY:
        advice.append(
            "Less than 4 GiB of memory are free: large volumes will be refused. Close other "
            "programs."
        )
    if sys.version_info >= (3, 14):
        advice.append("cDAL is tested with Python 3.10 to 3.13.")
    return advice
