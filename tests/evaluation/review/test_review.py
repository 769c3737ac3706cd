"""A page of real predictions in every kind of format, and what a second call does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.cli import main
from cdal.evaluation.review import write_review
from cdal.evaluation.review.views import SIDE
from cdal.imaging.palette import PALETTE
from cdal.inference.predict import predict
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event
from helpers.files import ball, disc, picture, save_nifti, visible, write_series
from helpers.review import Page, discs, row, write_record
from helpers.segmenters import bright_predictor

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (20, 22, 12)


def test_every_format_has_its_picture_and_no_header_is_on_the_page(tmp_path: Path):
    truth = ball(SHAPE, AFFINE)
    values = (200 * truth + np.random.default_rng(0).integers(0, 20, SHAPE)).astype(np.uint16)
    inputs = tmp_path / "in"
    save_nifti(inputs / "v.nii.gz", values.astype(np.float32), AFFINE)
    flat = values[:, :, 6].astype(np.uint8)
    Pillow.fromarray(flat).save(inputs / "photo.jpg", quality=95)
    Pillow.fromarray(flat).convert("RGB").save(inputs / "colours.bmp")
    tifffile.imwrite(inputs / "deep.tif", flat.astype(np.uint16) * 200)
    for number in (1, 2):
        write_series(
            inputs / "series",
            values.transpose(2, 0, 1),
            (1, 1, 2),
            "SECRET",
            number,
            first=20 * number,
        )
    for path in (inputs / "series").iterdir():
        file = pydicom.dcmread(path)
        file.PatientName, file.PatientID = "SECRET^NAME", "SECRET-1"
        file.save_as(path)
    model = bright_predictor(DataSettings(spatial_dims=2, size=(32, 32)), ("background", "ball"))
    given = sorted(path for path in inputs.iterdir() if path.name != "colours.bmp")
    save, out = ("mask", "uncertainty"), tmp_path / "out"
    written = predict(model, given, out, save=save, series="2")
    assert (len(written.done), written.failed) == (4, {})
    review = write_review(out)
    assert (review.cases, review.problems) == (4, ())
    page = Page(review.page)
    assert len(page.all("img")) == 4
    for found in page.all("img"):
        with Pillow.open(out / found["src"]) as shown:
            assert shown.size == (int(found["width"]), int(found["height"]))
            pixels = np.asarray(shown.convert("RGB"), np.int64)[:, :SIDE]
        near = np.abs(pixels - PALETTE[1]).sum(axis=-1) < 60
        assert near.sum() > 50, found["alt"]
    for path in (review.page, *(out / "review_files").iterdir()):
        assert b"SECRET" not in path.read_bytes()


def test_a_second_call_draws_only_what_has_changed(tmp_path: Path):
    results = discs(tmp_path, 5)
    events: list[Event] = []
    first = write_review(results, report=events.append)
    assert (first.cases, first.kept) == (5, 0)
    assert {(event.task, event.total) for event in events} == {("drawing", 5)}
    assert [event.done for event in events] == [0, 1, 2, 3, 4, 5]
    before = first.page.read_bytes()
    picture(tmp_path / "images/c3.png", 90 * disc(40, 9))
    again = write_review(results)
    assert again.kept == 4
    assert again.page.read_bytes() == before
    assert len(visible(results / "review_files")) == 5
    write_record(results, [])
    write_review(results)
    assert visible(results / "review_files") == set()


def test_a_call_that_is_stopped_leaves_the_page_as_it_was(tmp_path: Path):
    results = discs(tmp_path, 3)
    page = write_review(results).page
    before = page.read_bytes()
    for path in (results / "review_files").iterdir():
        path.unlink()

    def stop(event: Event) -> None:
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_review(results, report=stop)
    assert page.read_bytes() == before
    assert len(visible(results / "review_files")) == 2
    assert write_review(results).kept == 2


def test_other_files_are_kept(tmp_path: Path):
    results = discs(tmp_path, 1)
    (results / "review.html").write_text("<p>my notes")
    with pytest.raises(UserError, match="was not written by cdal review"):
        write_review(results)
    for name in ("page", "images", "a.png"):
        with pytest.raises(UserError, match="expected the name of a page"):
            write_review(results, tmp_path / name)
    assert write_review(results, tmp_path / "new" / "page.html").cases == 1
    assert visible(tmp_path / "new") == {"page.html", "page_files"}
    assert (results / "review.html").read_text() == "<p>my notes"


def test_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results = discs(tmp_path, 2)
    assert main(["review", str(results)]) == 0
    shown = capsys.readouterr()
    assert (
        shown.out
        == f"{results / 'review.html'}: 2 cases, 2 pictures drawn, 0 kept, 0 without a picture\n"
    )
    assert main(["review", str(results)]) == 0
    assert "2 cases, 0 pictures drawn, 2 kept, 0 without" in capsys.readouterr().out
    write_record(tmp_path / "old", [row(f"gone{k}.png") for k in range(7)])
    assert main(["review", str(tmp_path / "old"), "--out", str(tmp_path / "p.html")]) == 3
    shown = capsys.readouterr()
    assert "7 cases, 0 pictures drawn, 0 kept, 7 without a picture" in shown.out
    assert len(shown.err.splitlines()) == 6
    assert "gone0.png is not there" in shown.err
    assert "2 more without a picture" in shown.err
    assert main(["review", str(tmp_path / "old"), "--out", str(tmp_path / "p.html")]) == 2
    assert (
        "p.html is kept, as there is nothing to show. gone0.png is not" in capsys.readouterr().err
    )
    assert main(["review", str(tmp_path)]) == 2
    assert "holds no predictions.json" in capsys.readouterr().err
