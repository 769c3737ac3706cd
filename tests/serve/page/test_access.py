"""The page without a mouse, in the dark, on narrow screens, and with hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cdal.inference.predict import predict
from helpers.files import picture
from helpers.page import SAVED, Watched, bright, bump
from helpers.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures only, one of them with markup for its name, and of a class with markup too."""
    root = tmp_path_factory.mktemp("hostile")
    names = ("a", "b", HOSTILE)
    sources = [
        picture(root / "images" / f"{name}.png", bump((40 + k, 50), np.ones(2)))
        for k, name in enumerate(names)
    ]
    predict(bright(2, ("<b>disc</b>", "rest")), sources, root / "results", save=SAVED)
    return root / "results"


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("server"), results=folder) as server:
        yield server.address


def test_names_are_text(page: Watched):
    page.open(f"{HOSTILE}.png")
    assert page.page.inner_text("#title") == f"{HOSTILE}.png"
    assert "<b>disc</b>" in page.page.inner_text("#shown tbody")
    assert page.page.locator("body img, body b").count() == 0


def test_the_list_is_used_with_the_keyboard(page: Watched):
    page.open("a.png")
    entries = page.page.locator("#cases .case")
    names = entries.locator(".name").all_inner_texts()
    assert entries.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1
    current = page.page.locator("#cases [aria-current=true]")
    assert current.locator(".name").inner_text() == "a.png"
    current.focus()
    step = "ArrowUp" if names.index("a.png") else "ArrowDown"
    other = names[names.index("a.png") + (-1 if step == "ArrowUp" else 1)]
    page.page.keyboard.press(step)
    page.page.keyboard.press("Enter")
    page.wait_for(other)
    assert page.page.evaluate("document.activeElement.className") == "view"


def test_one_pixel_is_drawn_with_the_keyboard_and_taken_back(page: Watched):
    page.open("a.png")
    page.page.keyboard.press("b")
    page.page.focus("canvas.view")
    before = page.page.inner_text("#shown tbody")
    for key in ("[", "[", "[", "[", "ArrowLeft", "ArrowUp"):
        page.page.keyboard.press(key)
    page.page.locator("label.select:has-text('Draws') select").select_option("rest")
    page.page.focus("canvas.view")
    page.page.keyboard.press("Enter")
    page.settle()
    counts = page.page.locator("#shown td.shown").all_inner_texts()
    assert counts[1] == "1 px"
    page.page.keyboard.press("z")
    page.settle()
    assert page.page.inner_text("#shown tbody") == before


def test_help_lists_the_keys(page: Watched):
    page.open("a.png").keyboard.press("?")
    dialog = page.page.get_by_role("dialog", name="Keys")
    assert dialog.is_visible()
    assert dialog.locator("tr").count() > 20
    page.page.keyboard.press("n")  # no key works behind the dialog
    assert dialog.is_visible()
    page.page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_everything_that_can_be_operated_has_a_name(page: Watched):
    page.open("a.png")
    for source in ("Threshold", "Votes"):
        page.choose(source)
        nameless = page.page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, canvas, a, progress')]
              .filter((one) => one.checkVisibility() && !one.closest('.outlines'))
              .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim()
                                 || one.labels?.[0]?.textContent.trim()))
              .map((one) => one.outerHTML)"""
        )
        assert nameless == []
    levels = page.page.locator("h1, h2").evaluate_all("all => all.map(one => one.tagName)")
    assert levels[0] == "H1"
    assert page.page.get_by_role("status").first.get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(page: Watched, scheme: str):
    page.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.open("a.png")
    contrasts = page.page.evaluate(
        """() => {
          const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255)
            .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
            .reduce((sum, x, k) => sum + x * [0.2126, 0.7152, 0.0722][k], 0)
          const behind = (one) => {
            const colour = getComputedStyle(one).backgroundColor
            return colour === 'rgba(0, 0, 0, 0)' ? behind(one.parentElement) : colour
          }
          return [...document.querySelectorAll('button, .chip, th, td, h2, label span, a, p')]
            .filter((one) => one.checkVisibility() && one.textContent.trim() && !one.disabled)
            .map((one) => {
              const pair = [getComputedStyle(one).color, behind(one)].map(luminance)
              const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)
              return [one.textContent.slice(0, 20), ratio]
            })
        }"""
    )
    assert len(contrasts) > 20
    assert [row for row in contrasts if row[1] < 4.5] == []  # WCAG 2.2, 1.4.3


def test_a_narrow_screen_needs_no_scrolling_to_the_side(page: Watched):
    page.page.set_viewport_size({"width": 390, "height": 800})
    page.open("a.png")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.page.locator("#viewer canvas").bounding_box()["width"] > 350  # type: ignore[index]


def test_a_token_in_the_address_opens_everything(browser: Browser, folder: Path, tmp_path: Path):
    with served(tmp_path, results=folder, token="a secret of the test") as server:
        context = browser.new_context()
        watched = Watched(context.new_page(), server.address)
        watched.page.goto(f"{server.address}/?token=a%20secret%20of%20the%20test")
        watched.page.wait_for_selector("#shown td.shown")
        assert "token" not in watched.page.url
        context.close()
        watched.check()
