"""The loop on the page: train from reviewed cases, watch, compare, adopt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.page import Watched
from helpers.serving import served
from helpers.trainings import Pretended

COMPARED = {"cases": 3, "before": {"a": 0.512, "b": 0.7}, "after": {"a": 0.634, "b": 0.8}}


@pytest.fixture
def address(process: Pretended, volume_model: Path, tmp_path: Path) -> Iterator[str]:
    with served(tmp_path, [volume_model], tmp_path / "results") as server:
        yield server.address
        process.go.set()


def begin(page: Watched) -> None:
    page.start()
    page.page.click("summary:text-is('Train from corrections')")
    page.page.fill("#minutes", "3")
    page.page.click("text=Train from reviewed cases")


def test_a_better_model_is_offered_and_stands_beside_the_old_one(page: Watched, process: Pretended):
    begin(page)
    page.page.wait_for_selector("#loop svg .loss")
    assert page.page.inner_text("#loop [role=status]") == "Training"
    assert process.words[-3:] == ["3", "--device", "cpu"]
    title = page.page.locator("#loop svg").get_attribute("aria-label")
    assert title == "Step 1000: loss 0.00100, Dice 0.80"
    process.compared = {**COMPARED, "better": True}
    process.go.set()
    page.page.click("#loop button:text-matches('^Adopt')")
    rows = page.page.locator("#loop tbody tr").all_inner_texts()
    assert [row.split() for row in rows] == [["a", "0.51", "0.63"], ["b", "0.70", "0.80"]]
    page.page.wait_for_selector("#status:has-text('can now be chosen')")
    options = page.page.locator("#model option")
    options.nth(1).wait_for(state="attached")
    names = options.all_inner_texts()
    assert len(names) == 2
    assert names[0] == "volume"
    assert page.page.input_value("#model") == names[1]


def test_a_model_that_is_not_better_is_not_offered(page: Watched, process: Pretended):
    begin(page)
    process.compared = {**COMPARED, "better": False}
    process.go.set()
    page.page.wait_for_selector("#loop p:has-text('not better')")
    assert page.page.locator("#loop button:text-matches('^Adopt')").count() == 0
    assert page.page.locator("#model option").count() == 1


def test_a_training_is_stopped_and_its_failure_is_told(page: Watched, process: Pretended):
    begin(page)
    page.page.wait_for_selector("#loop svg")
    page.page.click("#loop button:text-is('Stop')")
    page.page.wait_for_selector("#loop [role=status]:text-is('Stopped')")
    process.reason = "no case is accepted or corrected."
    process.go.set()
    page.page.click("text=Train from reviewed cases")
    page.page.wait_for_selector(f"#loop [role=status]:text-is('Failed. {process.reason}')")
