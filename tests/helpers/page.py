"""A server with a few made-up cases, and a browser that looks at its page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
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

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""WebGL by software, on machines without a screen."""

VOTES = 3
SHAPE = (24, 30, 20)
SAVED = ("mask", "probability", "uncertainty", "votes")


class Growing(Brightness):
    """Each vote finds more of what is brighter than the mean than the vote before it."""

    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        bright = image[:, image.shape[1] // 2]
        drawn = torch.stack([4 * (bright - 1.2 + 0.5 * vote) for vote in range(votes)]).sigmoid()
        return torch.stack([1 - drawn, drawn], dim=2)


def bright(dims: int, classes: tuple[str, ...]) -> Predictor:
    """A predictor with one class."""
    size = (16,) * dims
    data = DataSettings(spatial_dims=dims, size=size, spacing=(1.0,) * 3 if dims == 3 else None)
    recipe = Recipe("bright", data, ImageUNetSettings(channels=(4, 8, 8)))
    engine = TorchEngine(Growing(stochastic=True).eval(), recipe)
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


@contextmanager
def running(folder: Path, results: Path, models: tuple[Path, ...] = ()) -> Iterator[str]:
    """A server in a thread of this process, and its address."""
    import uvicorn

    from cdal.serve.app import create_app
    from cdal.serve.models import Models
    from cdal.serve.run import listening
    from cdal.serve.settings import Serving
    from cdal.serve.site import Site

    settings = Serving(port=0)
    with listening(settings) as listener:
        site = Site(settings, Models(models, Sampling(), "cpu"), folder, results)
        server = uvicorn.Server(uvicorn.Config(create_app(site), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
            site.close()


def pixels(content: bytes) -> np.ndarray:
    """A screenshot `[H, W, 3]`."""
    import io

    return np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB")).astype(int)
