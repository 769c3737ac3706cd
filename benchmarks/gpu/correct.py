"""The step *correct*: the tests marked `gpu`, each a part of the record with what it measured (`record_property`)."""

from __future__ import annotations

import time

import pytest
from plan import ROOT
from record import Record


class _Parts:
    """A plugin of pytest that makes a part of each test."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what counts: the call, or a set-up that failed or was skipped."""
        if report.when != "call" and report.passed:
            return
        found = {"outcome": report.outcome, "test_seconds": round(report.duration, 2), **dict(report.user_properties)}
        if report.failed:
            found["error"] = str(report.longrepr).strip().splitlines()[-1]
        self.record.content["parts"].pop(report.nodeid, None)
        self.record.part(report.nodeid, lambda: found)


def run(record: Record, name: str, device: str, tiny: bool, deadline: float) -> None:
    """Run the tests; on a machine without a GPU each says that it was skipped."""
    words = ["-m", "gpu", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "test_cuda.py")]
    record.content["parts"].clear()  # all of them take a minute
    left = deadline - time.monotonic()
    print(f"{left:.0f} s left", flush=True)
    pytest.main(words, plugins=[_Parts(record)])
