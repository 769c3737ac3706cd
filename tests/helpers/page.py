"""A few made-up cases, and a browser that looks at them on the server's page."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from cdal.inference.predict import predict
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.model_header import ModelHeader
from helpers.files import OBLIQUE, picture, save_nifti
from helpers.segmenters import Brightness

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""WebGL by software, on machines without a screen."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


VOTES = 3
SHAPE = (24, 30, 20)
SAVED = ("mask", "probability", "uncertainty", "votes")


class Growing(Brightness):
    """Each vote finds more of what is brighter than the mean than the vote before it.

    That is the first class; the others are nowhere.

    Args:
        classes: number of classes without the background.
        level: standard deviations above the mean from which on the first vote finds something.
    """

    def __init__(self, classes: int, level: float) -> None:
        super().__init__(stochastic=True)
        self._classes, self._level = classes, level

    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        bright = image[:, image.shape[1] // 2]
        logits = [5 * (bright - self._level + 0.4 * vote) for vote in range(votes)]
        drawn = torch.stack(logits).sigmoid()
        nowhere = [torch.zeros_like(drawn)] * (self._classes - 1)
        return torch.stack([1 - drawn, drawn, *nowhere], dim=2)


def bright(dims: int, classes: tuple[str, ...], level: float = 1.6) -> Predictor:
    """A predictor of classes, of which it finds the first."""
    size = (16,) * dims
    data = DataSettings(spatial_dims=dims, size=size, spacing=(1.0,) * 3 if dims == 3 else None)
    recipe = Recipe("bright", data, ImageUNetSettings(channels=(4, 8, 8)))
    engine = TorchEngine(Growing(len(classes), level).eval(), recipe)
    header = ModelHeader(recipe, ("background", *classes), 1)
    return Predictor(engine, header, recipe, Sampling(votes=VOTES), name="bright")


def bump(shape: tuple[int, ...], spacing: np.ndarray, noise: int = 10) -> np.ndarray:
    """Something round, off the centre, that fades towards its edge."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * spacing
    extent = np.array(shape) * spacing
    centre = extent * np.linspace(0.4, 0.6, len(shape))
    height = np.clip(1 - np.linalg.norm(places - centre, axis=-1) / (0.4 * extent.min()), 0, 1)
    drawn = np.random.default_rng(0).integers(0, noise, shape)
    return (20 + 200 * np.sqrt(height) + drawn).astype(np.uint8)


def images(root: Path) -> dict[str, Path]:
    """A straight volume, an oblique one with its axes in another order, and a picture."""
    affines = {"straight": np.eye(4), "oblique": OBLIQUE}
    found = {
        name: save_nifti(
            root / f"{name}.nii.gz",
            bump(SHAPE, np.linalg.norm(affine[:3, :3], axis=0)),
            affine,
        )
        for name, affine in affines.items()
    }
    return {**found, "picture": picture(root / "picture.png", bump((80, 96), np.ones(2)))}


def results(root: Path) -> Path:
    """The images, and the folder of results that predicting them has written."""
    found = images(root / "images")
    out = root / "results"
    predict(bright(3, ("ball",)), [found["straight"], found["oblique"]], out, save=SAVED)
    predict(bright(2, ("disc",)), [found["picture"]], out, save=SAVED)
    return out


class Watched:
    """A page in the browser, and what it must not do.

    Args:
        page: page of playwright.
        address: address of the server.

    Attributes:
        page: page of playwright.
        address: address of the server.
        errors: what was written into the console, or thrown.
        strangers: requests to other hosts.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.set_default_timeout(30_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.errors.append(message.text)

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", f"blob:{self.address}")):
            self.strangers.append(request.url)

    def check(self) -> None:
        assert self.errors == []
        assert self.strangers == []

    def start(self) -> None:
        """Load the page, and wait for its list of cases."""
        self.page.goto(self.address)
        self.page.wait_for_selector("#cases li")

    def open(self, name: str) -> Page:
        """Load the page, with a case that it opens."""
        with urlopen(f"{self.address}/v1/cases") as reply:
            (case,) = [case["id"] for case in json.load(reply)["cases"] if case["name"] == name]
        self.page.goto(f"{self.address}/#{case}")
        self.wait_for(name)
        return self.page

    def wait_for(self, name: str) -> None:
        """Wait until a case is open."""
        self.page.wait_for_function(
            "name => document.querySelector('#title').textContent === name", arg=name
        )
        self.page.wait_for_selector("#busy", state="hidden")
        self.settle()

    def settle(self) -> None:
        """Wait until everything is drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.page.wait_for_timeout(100)  # for the frame to reach the screen

    def choose(self, name: str) -> None:
        """Choose one of several, such as the mask that is shown or a tool."""
        self.page.get_by_role("radio", name=name, exact=True).check()
        self.settle()

    def slide(self, label: str, value: float) -> None:
        """Move a slider."""
        self.page.locator(f"label.slider:has-text({label!r}) input").fill(str(value))
        self.settle()

    def volume(self) -> str:
        """The volume of what is shown, of the first class."""
        return self.page.inner_text("#shown td.shown")

    def look(self) -> np.ndarray:
        """The canvas as it is on the screen, `[H, W, 3]`."""
        shot = self.page.locator("#viewer canvas").first.screenshot()
        return np.asarray(Pillow.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    def module(self, code: str, argument: object = None) -> Any:
        """The value of JavaScript that begins with imports from the page's modules."""
        return self.page.evaluate(f"async (given) => {{ {code} }}", argument)
