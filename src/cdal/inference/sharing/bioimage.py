"""A model as bioimage.io describes it: `bioimageio.yaml`, format 0.5, with an ONNX graph.

Programs that read it show the graph one image and nothing else, so it is the model without
diffusion: one vote, the coarse segmentation. What happens before is named in the words of the
format (bioimage.io specification, model 0.5: ensure_dtype, scale_linear, scale_range, clip); mean,
deviation and temperature are in the graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image as Pillow
from scipy import ndimage
from torch import Tensor, nn

from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.imaging.intensities import match_channels, normalise, type_range
from cdal.imaging.open import open_image
from cdal.imaging.overlay import outlined
from cdal.inference.decision import LEAST, decide
from cdal.inference.export import image_example, write_graph
from cdal.inference.sharing.card import AUTHORS, PAPER, Shared, readme
from cdal.recipes.recipe import Recipe
from cdal.recipes.variants import with_timesteps
from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded, write_text
from cdal.segmenters.model_file import load_model
from cdal.segmenters.segmenter import Graph

_ARXIV = "https://arxiv.org/abs/2502.06997"
_SIDE = 512
"""Pixels of each side of the cover."""

_FLAT = 1e-6
"""Least deviation of a channel, for images without contrast."""

_EIGHT_BITS = 255.0
_SPACE = {2: ("y", "x"), 3: ("x", "y", "z")}
"""Names of our axes: rows and columns; right, anterior and superior."""

_USE = """    pip install "bioimageio.core[onnx]"
    bioimageio test bioimageio.yaml
    bioimageio predict --example bioimageio.yaml

The graph gives the probability of each class (at the model's temperature) for images of
{needs}. It is the model without diffusion: one vote, and no uncertainty. The votes
are in `cdal predict`, of which this is the run with
`--timesteps 0 --votes 1 --no-mirror --components 0 --decision largest`."""


class _Whole(nn.Module):
    """The model after clipping: intensities, one vote, temperature, `[1, C, *S] -> [1, K, *S]`.

    Args:
        graph: the network.
        standardise: whether each channel gets mean 0 and standard deviation 1.
        temperature: temperature of the probabilities, see `cdal.inference.decision.temper`.
    """

    def __init__(self, graph: Graph, standardise: bool, temperature: float) -> None:
        super().__init__()
        self.vote, self.standardise, self.temperature = graph, standardise, temperature

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        if self.standardise:
            space = tuple(range(2, image.dim()))
            apart = image - image.mean(dim=space, keepdim=True)
            deviation = (apart**2).mean(dim=space, keepdim=True).sqrt()
            image = apart / deviation.clamp_min(_FLAT)
        vote = self.vote(image)
        if self.temperature == 1:
            return vote
        powers = vote.clamp_min(LEAST) ** (1 / self.temperature)
        return powers / powers.sum(dim=1, keepdim=True)


def write_bioimage(shared: Shared, folder: Path, example: Path | str | None = None) -> list[Path]:
    """Write a model for bioimage.io.

    Args:
        shared: the model.
        folder: folder for the files.
        example: image for the test tensors and the cover, of which the middle is taken; a drawn one
            if `None`.

    Returns:
        The files.

    Raises:
        UserError: the model needs more than one image at a time, or cannot become a graph without
            diffusion; the example does not suit it; or an extra is not installed.
    """
    recipe = _recipe(shared)
    segmenter, header = load_model(shared.path, recipe)
    graph = segmenter.graph()
    if graph is None or graph.random.timesteps:
        raise UserError(
            f"{shared.path}: {shared.system} draws random numbers, and programs that read "
            "bioimage.io have none. Export a plain network, or cdal."
        )
    standardise = recipe.data.intensities == "image"
    module = _Whole(graph, standardise, header.temperature or 1.0).eval()
    image, axes, _ = image_example(recipe, header)
    shapes = {"image": {} if recipe.data.resize else axes}
    what = f"{shared.path}: the network of {shared.system}"
    write_graph(
        module, (image,), shapes, ["image"], ["probability"], "onnx", folder / "model.onnx", what
    )
    values = _drawn(shared, recipe) if example is None else _middle(shared, recipe, Path(example))
    stored = values.dtype if standardise else np.dtype(np.uint8)
    seen = normalise(values, recipe.data.intensities, stored, "the example")
    with torch.no_grad():
        output = module(torch.from_numpy(seen)[None]).numpy()
    _write_array(folder / "test_input.npy", values[None])
    _write_array(folder / "test_output.npy", output)
    with encoded(folder / "cover.png") as buffer:
        _cover(Image(values, stored=stored), decide(output[0])).save(buffer, format="PNG")
    size = " x ".join(map(str, recipe.data.size))
    needs = f"{size} voxels" if recipe.data.resize else f"{size} voxels or more, in its multiples"
    write_text(folder / "README.md", readme(shared, _USE.format(needs=needs)))
    content = yaml.safe_dump(description(shared, recipe), sort_keys=False, allow_unicode=True)
    write_text(folder / "bioimageio.yaml", content)
    return sorted(path for path in folder.iterdir() if path.is_file())


def description(shared: Shared, recipe: Recipe) -> dict[str, Any]:
    """Content of `bioimageio.yaml`.

    Args:
        shared: the model.
        recipe: its recipe without diffusion.
    """
    header, data = shared.header, recipe.data
    names = _SPACE[data.spatial_dims]
    step = recipe.segmenter.multiple(data)
    channels = [f"channel{c}" for c in range(header.image_channels)]
    if header.image_channels == 3 and data.spatial_dims == 2:
        channels = ["r", "g", "b"]
    unit = {} if data.spacing is None else {"unit": "millimeter"}
    scales = data.spacing or (1.0,) * len(names)
    space = [
        {"type": "space", "id": name, "size": size if data.resize else {"min": size, "step": step}}
        | {"scale": scale, **unit}
        for name, size, scale in zip(names, data.size, scales, strict=True)
    ]
    same = [
        {"type": "space", "id": name, "size": {"tensor_id": "image", "axis_id": name}}
        | {"scale": scale, **unit}
        for name, scale in zip(names, scales, strict=True)
    ]
    image = {
        "id": "image",
        "description": "the image with the model's spacing and orientation, as it is stored",
        "axes": [
            {"type": "batch", "size": 1},
            {"type": "channel", "channel_names": channels},
            *space,
        ],
        "test_tensor": {"source": "test_input.npy"},
        "preprocessing": _preprocessing(data.intensities, names),
    }
    probability = {
        "id": "probability",
        "description": "probability of each class",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [f"class{k}" for k in range(len(header.classes))]},
            *same,
        ],
        "test_tensor": {"source": "test_output.npy"},
    }
    licence = {"license": shared.licence} if shared.licence else {}
    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": f"cDAL {_safe(shared.name)}",
        "description": _safe(shared.about),
        "authors": [{"name": AUTHORS}],
        "cite": [{"text": PAPER, "url": _ARXIV}],
        **licence,
        "version": "0.1.0",
        "tags": ["segmentation", "semantic-segmentation", f"{data.spatial_dims}d", shared.system],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "inputs": [image],
        "outputs": [probability],
        "weights": {"onnx": {"source": "model.onnx", "opset_version": _OPSET}},
        "config": {"cdal": {"classes": list(header.classes), "licence": header.licence}},
    }


_OPSET = 18
"""That of the graphs that torch.onnx writes."""


def _recipe(shared: Shared) -> Recipe:
    """The recipe without diffusion.

    Raises:
        UserError: the model is an ensemble, or needs more than an image.
    """
    header = shared.header
    if header.members:
        raise UserError(
            f"{shared.path} is an ensemble of {len(header.members)} models, which cannot be one "
            "graph. Give one of those that it was made of."
        )
    if header.recipe.data.neighbours or header.recipe.data.position:
        raise UserError(
            f"{shared.path}: the network sees more than an image, neighbouring slices or places, "
            "which bioimage.io cannot describe. Export it with --to onnx."
        )
    steps = header.recipe.segmenter.diffusion_steps
    return with_timesteps(header.recipe, None if steps is None else 0, shared.path)


def _preprocessing(intensities: str, space: tuple[str, ...]) -> list[dict[str, Any]]:
    """What `cdal.imaging.intensities.Scale` does, in the words of the format.

    The format has `zero_mean_unit_variance` too, but bioimageio.core takes mean and deviation of
    the image before it was clipped. The graph does that part itself, see `_Whole`.
    """
    steps: list[dict[str, Any]] = [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]
    if intensities == "range":
        linear = {"gain": 4 / _EIGHT_BITS, "offset": -2.0}
        return [*steps, {"id": "scale_linear", "kwargs": linear}]
    percentiles = {"axes": list(space), "min_percentile": 0.5, "max_percentile": 99.5}
    return [
        *steps,
        {"id": "scale_range", "kwargs": percentiles},
        {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
    ]


def _drawn(shared: Shared, recipe: Recipe) -> np.ndarray:
    """A drawn image of soft shapes, `[C, *S]` float32 from 0 to 255."""
    shape = (shared.header.image_channels, *recipe.data.size)
    rough = np.random.default_rng(0).normal(size=shape)
    smooth = ndimage.gaussian_filter(rough, (0, *(length / 12 for length in recipe.data.size)))
    low, high = smooth.min(), smooth.max()
    return np.round(_EIGHT_BITS * (smooth - low) / (high - low)).astype(np.float32)


def _middle(shared: Shared, recipe: Recipe, path: Path) -> np.ndarray:
    """The middle of an image on the network's grid, `[C, *S]` float32.

    As large as the network sees in one piece; smaller images repeat their edges.
    """
    data, channels = recipe.data, shared.header.image_channels
    with open_image(path, fourth_axis=channels) as opened:
        image = Image(opened.rows(0, opened.shape[0]), opened.like.affine, stored=opened.stored)
        frame = Frame(match_channels(image, channels, str(path)), data, str(path))
        values = frame.read(0, frame.shape[0])
    if len(frame.shape) != data.spatial_dims:
        raise UserError(f"{path}: expected {data.spatial_dims} axes; it has {len(frame.shape)}.")
    if data.intensities == "range":
        values = values * np.float32(_EIGHT_BITS / type_range(image.stored))
    cut, added = [slice(None)], [(0, 0)]
    for length, size in zip(values.shape[1:], data.size, strict=True):
        start = max(0, (length - size) // 2)
        missing = max(0, size - length)
        cut.append(slice(start, start + size))
        added.append((missing // 2, missing - missing // 2))
    return np.ascontiguousarray(np.pad(values[tuple(cut)], added, mode="edge"), np.float32)


def _cover(image: Image, mask: np.ndarray) -> Pillow.Image:
    """A square picture of the example with the outlines of its classes."""
    picture = outlined(image, mask, _SIDE)
    square = Pillow.new("RGB", (_SIDE, _SIDE))
    square.paste(picture, ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2))
    return square


def _write_array(path: Path, array: np.ndarray) -> None:
    with encoded(path) as buffer:
        np.save(buffer, np.ascontiguousarray(array, np.float32))


def _safe(text: str) -> str:
    """Text in the letters that names of bioimage.io may have."""
    return "".join(c if c.isalnum() or c in "_+- (),." else "-" for c in text)[:128]
