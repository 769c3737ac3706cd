"""The step *correct*: the tests marked `gpu`, each a part of the record with what it measured (`record_property`)."""

from __future__ import annotations

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
            found["failure"] = str(report.longrepr).strip().splitlines()[-1]  # a finding: the part was measured
        self.record.part(report.nodeid, lambda: found)


def run(record: Record, name: str, device: str, tiny: bool, seconds: float) -> None:
    """Run the tests; on a machine without a GPU each says that it was skipped."""
    record.content["parts"].clear()  # all of them take a minute
    code = pytest.main(
        ["-m", "gpu", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "test_cuda.py")], plugins=[_Parts(record)]
    )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the tests could not be run: {code!r}")
