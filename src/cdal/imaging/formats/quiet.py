"""Libraries that read files print nothing: what matters becomes an error of ours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_LIBRARIES = {"nibabel", "tifffile", "PIL", "pydicom", "highdicom"}


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings and log messages of libraries, and NumPy's about overflows."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    loggers = [
        logging.getLogger(name)
        for name in _LIBRARIES.union(logging.root.manager.loggerDict)
        if name.partition(".")[0] in _LIBRARIES
    ]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)
