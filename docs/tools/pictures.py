"""The pictures of the method: `python -m tools.pictures`, which `make pictures` calls.

The architecture is drawn from the recipe's defaults. Diffusion and votes need a model of the
phantoms in `cdal-demo`, as `cdal demo` writes it. The reliability curves need the hippocampus set
in the folder that `CDAL_TEST_DATA` names. What is not there is passed over, and said.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Pillow
from torch import Tensor

import cdal
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.imaging.image import Image
from cdal.recipes.recipe import override
from cdal.segmenters.diffusion.cdal import CDAL
from cdal.segmenters.diffusion.schedule import make_schedule, sample_posterior
from cdal.segmenters.model_file import load_segmenters
from tools.architecture import architecture

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "method" / "pictures"
VOTES, SHOWN = 16, 3
LINE = "#ff9f1c"


class Step(NamedTuple):
    """One step of sampling, as probabilities and noise at full resolution.

    Attributes:
        t: step, from T down to 1.
        noisy: x_t, `[L, *S]`.
        clean: the label that the denoiser predicts from it, `[L, *S]`.
    """

    t: int
    noisy: np.ndarray
    clean: np.ndarray


@torch.no_grad()
def chain(segmenter: CDAL, image: Tensor, rng: torch.Generator) -> Iterator[Step]:
    """Algorithm 2 for one vote, as the paper prints it: every x_t and every x_0 that is predicted.

    Args:
        segmenter: cDAL with `sampling_timesteps` T.
        image: the image as the network sees it, `[1, C, *S]`.
        rng: random generator of all draws.
    """
    generator, T = segmenter.generator, segmenter.settings.sampling_timesteps
    features, schedule = generator.encode(image), make_schedule(T)
    assert features.coarse is not None
    x_t = torch.randn(features.coarse.shape, generator=rng)
    for t in range(T, 0, -1):
        z = torch.randn(1, segmenter.settings.latent, generator=rng)
        x0 = generator.denoise(x_t, torch.tensor([t / T]), z, features)
        yield Step(t, *(generator.unfold(x)[0].numpy() for x in (x_t, x0)))
        noise = torch.randn(x_t.shape, generator=rng)
        x_t = sample_posterior(schedule, x0, x_t, torch.tensor([t]), noise)


def diffusion(demo: Path) -> Figure:
    """One vote for the first held-out phantom in four steps, and the mean of many votes."""
    predictor, (name, image) = _held_out(demo)
    recipe = override(predictor.recipe, {"segmenter.sampling_timesteps": 4})
    (segmenter,) = load_segmenters(demo / "run/model.safetensors", predictor.header, [recipe])
    assert isinstance(segmenter, CDAL)
    seen = predictor.reader(predictor.frame(image, name), name)(0, image.shape[0])
    steps = list(chain(segmenter, torch.from_numpy(seen)[None], torch.Generator().manual_seed(0)))
    figure = Figure(figsize=(9.6, 4.1), layout="constrained")
    above, below = figure.subplots(2, len(steps) + 1)
    _show(above[0], image.array[0], "image", "gray")
    for axes, step in zip(above[1:], steps, strict=True):
        told = "$x_4$, noise" if step.t == len(steps) else f"$x_{step.t}$"
        _show(axes, step.noisy[-1], told, "gray", (-2.5, 2.5))
    mean = predictor.predict(image, name, votes=VOTES)
    _show(below[0], mean.probability[1], f"mean of {VOTES} votes", "gray", (0, 1))
    for axes, step in zip(below[1:], steps, strict=True):
        told = rf"predicted $\hat{{x}}_0$ at t = {step.t}"
        _show(axes, step.clean[-1], told, "gray", (-1, 1))
    return figure


def votes(demo: Path) -> bytes:
    """The votes for some held-out phantoms, one after the other, beside their spread (GIF)."""
    predictor, *cases = _held_out(demo, SHOWN)
    made = [
        (image.array[0], predictor.predict(image, name, keep_votes=True, votes=VOTES))
        for name, image in cases
    ]
    frames = []
    for number in range(VOTES):
        figure = Figure(figsize=(2 * SHOWN, 4.2), layout="constrained", dpi=72)
        above, below = figure.subplots(2, SHOWN)
        for axes, under, (pixels, prediction) in zip(above, below, made, strict=True):
            assert prediction.votes is not None  # because they were asked for
            _show(axes, pixels, f"vote {number + 1} of {VOTES}", "gray")
            axes.contour(prediction.votes[number, 1], [0.5], colors=LINE, linewidths=1.6)
            _show(under, prediction.uncertainty, "spread of all", "magma", (0, 0.5))
        frames.append(_pixels(figure).quantize(48, dither=Pillow.Dither.NONE))
    stream = io.BytesIO()
    frames[0].save(
        stream, "GIF", save_all=True, append_images=frames[1:], duration=450, loop=0, optimize=True
    )
    return stream.getvalue()


def reliability(data: Path) -> Figure:
    """How often voxels are right that the shipped hippocampus model is sure of, on its test cases.

    Without diffusion, with its votes, and with their temperature.
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1)
    ways = {
        "no diffusion": cdal.Sampling(timesteps=0, temperature=1.0),
        "15 votes": cdal.Sampling(votes=15, temperature=1.0),
        "15 votes, with the temperature": cdal.Sampling(votes=15),
    }
    for label, sampling in ways.items():
        known = cdal.evaluate("hippocampus", data, sampling).summary()["uncertainty"]
        _reliable(axes, known["reliability"], f"{label}: ECE {known['ece']:.4f}")
    axes.set(xlabel="largest probability", ylabel="share of voxels that are right", aspect="equal")
    axes.set(xlim=(0.3, 1), ylim=(0.3, 1))
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _reliable(axes: Axes, bins: dict[str, Any], label: str) -> None:
    counted, sure, right = (np.array(bins[name]) for name in ("voxels", "confidence", "right"))
    used = counted > 0
    axes.plot(sure[used] / counted[used], right[used] / counted[used], "o-", ms=3, label=label)


def _held_out(demo: Path, count: int = 1) -> tuple[Any, ...]:
    """The demonstration's model, and the first phantoms that it has not seen."""
    predictor = cdal.load(demo / "run", device="cpu")
    folder = open_folder(demo / "phantoms")
    names = sorted(predictor.header.data["test"])[:count]
    cases: list[tuple[str, Image]] = [
        (case.name, read_case(case, folder)[0]) for case in folder.cases if case.name in names
    ]
    return predictor, *cases


def _show(
    axes: Axes,
    values: np.ndarray,
    title: str,
    colours: str,
    limits: tuple[float, float] | None = None,
) -> None:
    low, high = limits or (None, None)
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _pixels(figure: Figure) -> Pillow.Image:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return Pillow.open(stream).convert("RGB")


def main() -> None:
    """Draw what can be drawn here."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "architecture.svg").write_text(architecture(), encoding="utf-8")
    demo = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "cdal-demo"
    if (demo / "run" / "model.safetensors").is_file():
        diffusion(demo).savefig(FOLDER / "diffusion.png", dpi=90)
        (FOLDER / "votes.gif").write_bytes(votes(demo))
    else:
        print(f"No diffusion and no votes: {demo} is not there. Run cdal demo.")
    data = Path(os.environ.get("CDAL_TEST_DATA", ROOT.parent / "shared" / "data")) / "hippocampus"
    if data.is_dir():
        reliability(data).savefig(FOLDER / "reliability.png", dpi=90)
    else:
        print(f"No reliability curves: {data} is not there.")


if __name__ == "__main__":
    main()
