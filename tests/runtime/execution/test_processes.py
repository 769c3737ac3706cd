"""Verbs in processes of their own."""

from __future__ import annotations

from cdal.runtime.execution.processes import run_verb


def test_a_process_can_be_told_to_end_as_soon_as_it_has_begun():
    reason = run_verb(["info"], lambda line: None, lambda stop: stop())
    assert reason == "the process was ended by SIGTERM"
