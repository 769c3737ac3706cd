"""Files dropped on the page, and segmented by the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from cdal.inference.predict import predict
from helpers.ensembles import member, plain_recipe
from helpers.files import numbers, picture, write_series
from helpers.page import Watched
from helpers.serving import SAMPLING, served


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, volume_model: Path) -> tuple[Path, Path]:
    """A model for pictures and one for volumes, with random weights."""
    return (
        member(tmp_path_factory.mktemp("models") / "flat.safetensors", recipe=plain_recipe()),
        volume_model,
    )


@pytest.fixture(scope="module")
def address(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("server"), models) as server:
        yield server.address


def drop(page: Watched, path: Path) -> None:
    """Drop a file or a folder on the page, as from a file manager."""
    session = page.page.context.new_cdp_session(page.page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}

    def send(kind: str) -> None:
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 300, "data": data})

    send("dragEnter")
    # A mouse that drags sends this all the time; nothing is dropped before the page takes it.
    for _ in range(60):
        send("dragOver")
        page.settle()
        if page.page.locator("body.dropping").count():
            break
        page.page.wait_for_timeout(500)
    assert page.page.locator("body.dropping").count() == 1
    send("dragOver")
    page.settle()
    send("drop")


def mask_of(page: Watched) -> bytes:
    """The mask that the page offers to save."""
    link = page.page.locator("#actions a:text-is('mask')").get_attribute("href")
    with urlopen(f"{page.address}/{link}") as reply:
        return reply.read()


def test_a_dropped_picture_is_segmented_as_by_the_command(
    page: Watched, models: tuple[Path, Path], tmp_path: Path
):
    array = numbers((40, 48))
    source = picture(tmp_path / "dropped.png", array)
    page.start()
    assert page.page.inner_text("#cases") == "No cases yet. Drop an image here."
    drop(page, source)
    page.wait_for("dropped.png")
    assert page.page.inner_text("#status") == "dropped.png is segmented."
    predict(models[0], [source], tmp_path / "out", SAMPLING, ["mask"])
    assert mask_of(page) == (tmp_path / "out" / "dropped_mask.png").read_bytes()
    assert page.page.locator("#jobs li").count() == 0


def test_a_dropped_dicom_folder_is_one_case(
    page: Watched, models: tuple[Path, Path], tmp_path: Path
):
    volume = np.random.default_rng(0).integers(0, 900, (12, 18, 16))
    series = write_series(tmp_path / "series", volume)
    page.start()
    page.page.select_option("#model", "volume")
    drop(page, series)
    page.wait_for("series")
    assert page.page.locator("#cases .case:has-text('series')").count() == 1
    assert page.page.locator("#viewer canvas").count() == 1
    assert np.ptp(page.look(), axis=(0, 1)).max() > 50


def test_a_chosen_file_is_segmented_and_what_cannot_be_read_is_told(page: Watched, tmp_path: Path):
    page.start()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is no picture")
    with page.page.expect_file_chooser() as chosen:
        page.page.click("text=Segment files")
    chosen.value.set_files([broken])
    page.page.wait_for_selector("#status.error")
    assert "broken.png" in page.page.inner_text("#status")
    fine = picture(tmp_path / "fine.png", numbers((32, 32)))
    page.page.locator("#files").set_input_files([fine])
    page.wait_for("fine.png")
