"""The step *correct*: the tests marked `gpu`.

Each test is a part of the record, with the values that it reports through `record_property`.
"""

from __future__ import annotations

import pytest
from plan import ROOT
from record import Record


class _Parts:
    """A pytest plugin that makes each test a part of the record."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the call of a test, or its set-up or tear-down if that failed or was skipped."""
        if report.when != "call" and report.passed:
            return
        result = {
            "outcome": report.outcome,
            "test_seconds": round(report.duration, 2),
            **dict(report.user_properties),
        }
        if report.failed:
            # A failed test is a result too, not an error of the part.
            result["failure"] = str(report.longrepr).strip().splitlines()[-1]
        self.record.part(report.nodeid, lambda: result)


def run(record: Record, name: str, device: str, tiny: bool, seconds: float) -> None:
    """Run the tests; on a machine without a GPU, all of them are skipped."""
    record.content["parts"].clear()  # always run all tests; they take a minute
    tests = ROOT / "tests" / "training" / "test_cuda.py"
    code = pytest.main(
        ["-m", "gpu", "-q", "-p", "no:cacheprovider", str(tests)], plugins=[_Parts(record)]
    )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the tests could not be run: {code!r}")
