"""What a process of ours sets up before it works: memory, threads, warnings, loggers."""

from __future__ import annotations

import logging
import sys
import warnings

from cdal.runtime.memory import keep_freed_memory
from cdal.runtime.threads import respect_quota

_CHATTY = ("lightning", "lightning_fabric", "lightning.fabric", "lightning_fabric.utilities")
_SILENT = ("matplotlib", "nibabel", "nibabel.global", "PIL", "pydicom", "tifffile", "highdicom")
"""Loggers of libraries. What matters to the user is in our own messages."""


def settle(quiet: bool = True) -> None:
    """Set up this process. Programs call it, not libraries.

    Args:
        quiet: whether to hide warnings, unless Python was told what to do with them.
    """
    keep_freed_memory()
    respect_quota()
    if quiet and not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name, level in {
        **dict.fromkeys(_CHATTY, logging.ERROR),
        **dict.fromkeys(_SILENT, logging.CRITICAL),
    }.items():
        logging.getLogger(name).setLevel(level)
