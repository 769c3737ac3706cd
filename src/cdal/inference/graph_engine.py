"""Exported graphs, computed by ONNX Runtime or OpenVINO, without PyTorch."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.runtime.seeds import seed_sequence
from cdal.runtime.threads import thread_count
from cdal.segmenters.model_header import ModelHeader, header_of
from cdal.segmenters.random_inputs import RandomInputs

GRAPHS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Suffixes of exported graphs."""


def description_of(
    header: ModelHeader, recipe: Recipe, parameters: int, random: RandomInputs, version: str
) -> dict[str, Any]:
    """Content of the JSON file beside a graph: numbers for programs, instructions for people."""
    data = recipe.data
    volumes = data.spatial_dims == 3 or data.neighbours > 0
    channels = data.network_channels(header.image_channels)
    return {
        "cdal": version,
        "inputs": {
            "image": f"[1, {channels}, *S] float32; each axis of S a multiple of "
            f"{recipe.segmenter.multiple(data)}",
            **(_RANDOM if random.timesteps else {}),
        },
        "outputs": {
            "votes": "[V, K, *S] probabilities",
            "probability": "[K, *S], the mean over the votes",
            "uncertainty": "[*S], root of half the votes' variance, summed over classes",
        },
        "parameters": parameters,
        "random": asdict(random),
        "preprocessing": [
            *(["axes to right, anterior, superior (RAS)"] if volumes else []),
            *([f"resample linearly to {data.spacing} mm"] if volumes and data.spacing else []),
            *(
                [f"resize to {data.resize}, bilinear, smoothed where it shrinks"]
                if data.resize
                else []
            ),
            _INTENSITIES[data.intensities],
            *(
                [
                    f"slices across axis {data.slice_axis}, each with {data.neighbours} on either "
                    "side"
                ]
                if data.neighbours
                else []
            ),
            f"pad by repetition, as much on either side, to {data.size} or a multiple; above "
            f"{data.whole} times that, windows of {data.size} that overlap by {data.overlap}, "
            "blended with a Gaussian",
            *(
                ["the coordinates of each pixel, -sqrt(3) to sqrt(3) along each axis, as channels"]
                if data.position
                else []
            ),
        ],
        "postprocessing": [
            "cut the padding off",
            "probabilities back to the image's own grid, linearly",
            *(
                [f"to the power 1 / {header.temperature}, and made to add up to 1 again"]
                if header.temperature
                else []
            ),
            "the largest class wins"
            if data.decision == "largest"
            else "of all thresholds, the mask with the highest mean Dice with the votes",
            *(
                [f"of each class but the background the {data.components} largest components stay"]
                if data.components
                else []
            ),
        ],
        "header": json.loads(replace(header, recipe=recipe).to_json()),
    }


_RANDOM = {
    "noise": "[T, V, N, *S / f] float32, standard normal; T, N, f and latent as under random, V "
    "as many votes as are wanted",
    "z": "[T, V, latent] float32, standard normal, or ones if random says constant",
}
_INTENSITIES = {
    "image": "each channel: clip to its percentiles 0.5 and 99.5, then mean 0 and standard "
    "deviation 1",
    "range": "each channel: the range of its type (0 to 255 for 8 bits) to -2 to 2",
}


@dataclass(frozen=True)
class Description:
    """Content of the JSON file beside a graph, as far as programs use it.

    Attributes:
        header: header of the model.
        parameters: number of learned weights.
        random: random inputs of the graph.
    """

    header: ModelHeader
    parameters: int
    random: RandomInputs


class GraphEngine(ABC):
    """A graph behind `cdal.inference.engine.Engine`.

    Args:
        about: description of the graph.
        name: name of the runtime.
    """

    draws_apart, at_once = True, 1

    def __init__(self, about: Description, name: str) -> None:
        self.random, self.name = about.random, name
        self.stochastic, self.parameters = about.random.timesteps > 0, about.parameters

    @abstractmethod
    def votes(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The graph's votes, `[V, K, *S]`."""

    def need_inputs(self, shapes: Mapping[str, Sequence[int | None]], about: Description) -> None:
        """Check that a graph is the one of its description.

        Args:
            shapes: shape of each input by its name; `None` for an axis of any length.
            about: description of the graph.

        Raises:
            ValueError: the graph has other inputs.
        """
        data, random = about.header.recipe.data, about.random
        space = (None,) * data.spatial_dims
        channels = data.network_channels(about.header.image_channels)
        needed: dict[str, tuple[int | None, ...]] = {"image": (1, channels, *space)}
        if random.timesteps:
            needed["noise"] = (random.timesteps, None, random.noise_channels, *space)
            needed["z"] = (random.timesteps, None, random.latent)
        same = set(shapes) == set(needed) and all(
            len(shapes[name]) == len(shape)
            and all(
                None in pair or pair[0] == pair[1] for pair in zip(shape, shapes[name], strict=True)
            )
            for name, shape in needed.items()
        )
        if not same:
            raise ValueError(
                f"its inputs are {_shapes(shapes)}; the JSON file beside it describes "
                f"{_shapes(needed)}"
            )

    def about(self) -> dict[str, Any]:
        """See `Engine.about`."""
        return {"device": self.name, "precision": "float32", "threads": thread_count()}

    def generator(self, *keys: int | str) -> np.random.Generator:
        """See `Engine.generator`. The draws differ from those of PyTorch."""
        return np.random.default_rng(seed_sequence(*keys))

    def draw(
        self, size: Sequence[int], images: int, votes: int, rng: np.random.Generator
    ) -> list[dict[str, np.ndarray]]:
        """See `Engine.draw`."""
        return [self.random.draw(size, votes, rng) for _ in range(images)]

    def sample(
        self,
        image: np.ndarray,
        votes: int,
        rng: np.random.Generator,
        draws: Sequence[dict[str, np.ndarray]] | None = None,
    ) -> np.ndarray:
        """See `Engine.sample`. The graph takes one image at a time."""
        draws = self.draw(image.shape[2:], len(image), votes, rng) if draws is None else draws
        drawn = [
            {"image": picture[None], **numbers}
            for picture, numbers in zip(image, draws, strict=True)
        ]
        count = votes if self.stochastic else 1
        try:
            computed = [self.votes(inputs) for inputs in drawn]
            for found in computed:
                if (len(found), *found.shape[2:]) != (count, *image.shape[2:]):
                    raise ValueError(f"{count} votes have the shape {found.shape}")
            return np.stack(computed, axis=1)
        except MemoryError:
            raise
        except Exception as error:  # each runtime has exceptions of its own
            raise UserError(
                f"the graph cannot be computed by {self.name}: {error}. Is the JSON file beside it "
                "its own? Export it again."
            ) from error


def _alike(needed: Sequence[int | None], given: Sequence[int | None]) -> bool:
    """Whether two shapes are the same where both are fixed."""
    return len(needed) == len(given) and all(
        a is None or b is None or a == b for a, b in zip(needed, given, strict=True)
    )


def _shapes(shapes: Mapping[str, Sequence[int | None]]) -> str:
    texts = [
        f"{name} [{', '.join('any' if n is None else str(n) for n in shape)}]"
        for name, shape in sorted(shapes.items())
    ]
    return ", ".join(texts) or "none"


class OnnxEngine(GraphEngine):
    """ONNX Runtime."""

    def __init__(self, path: Path, about: Description) -> None:
        import onnxruntime

        super().__init__(about, "onnxruntime, cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        shapes = {
            value.name: [n if isinstance(n, int) else None for n in value.shape]
            for value in self.session.get_inputs()
        }
        self.need_inputs(shapes, about)

    def votes(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `GraphEngine.votes`."""
        return self.session.run(
            ["votes"], {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        )[0]


class OpenVinoEngine(GraphEngine):
    """OpenVINO, in float32. It also reads ONNX."""

    def __init__(self, path: Path, about: Description) -> None:
        import openvino

        super().__init__(about, "openvino, cpu")
        settings = {"INFERENCE_NUM_THREADS": thread_count(), "INFERENCE_PRECISION_HINT": "f32"}
        core = openvino.Core()
        model = core.read_model(path)
        shapes = {
            value.any_name if value.names else "": [
                n.get_length() if n.is_static else None for n in value.partial_shape
            ]
            for value in model.inputs
        }
        self.need_inputs(shapes, about)
        self.graph = core.compile_model(model, "CPU", settings)

    def votes(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `GraphEngine.votes`."""
        return self.graph({name: np.ascontiguousarray(value) for name, value in inputs.items()})[
            "votes"
        ]


class ProgramEngine(GraphEngine):
    """A program of `torch.export`, for measurements of what this process has exported itself.

    PyTorch runs code from such a file when it opens it. No other file may come here.
    """

    def __init__(self, path: Path, about: Description) -> None:
        import torch

        super().__init__(about, "torch.export, cpu")
        self.program = torch.export.load(path).module()

    def votes(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `GraphEngine.votes`."""
        import torch

        with torch.no_grad():
            return self.program(
                *(torch.from_numpy(np.ascontiguousarray(value)) for value in inputs.values())
            )[0].numpy()


_ENGINES: dict[str, Callable[[Path, Description], GraphEngine]] = {
    ".onnx": OnnxEngine,
    ".xml": OpenVinoEngine,
}


def engine_for(suffix: str) -> Callable[[Path, Description], GraphEngine] | None:
    """The engine for graphs of this suffix; `None` if they are not opened.

    OpenVINO computes ONNX if it is installed, because it is faster on volumes (see the page on
    speed).
    """
    return (
        OpenVinoEngine
        if suffix == ".onnx" and find_spec("openvino") is not None
        else _ENGINES.get(suffix)
    )


def read_description(path: Path) -> Description:
    """Read the JSON file beside a graph.

    Raises:
        UserError: the file is missing or damaged.
    """
    beside = path.with_suffix(".json")
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
        random = RandomInputs(**about["random"])
        return Description(
            header_of(json.dumps(about["header"]), beside), int(about["parameters"]), random
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{beside}: expected what cdal export wrote beside {path.name}; it cannot be read "
            f"({error}). Keep the two together."
        ) from error


def load_exported(path: Path) -> tuple[GraphEngine, ModelHeader]:
    """A graph that `cdal export` wrote, and the header of its model.

    Raises:
        UserError: the JSON file beside the graph is missing, damaged or of another graph, the
            runtime is not installed, or the graph cannot be read. Or it is a program of
            `torch.export`, which is never opened.
    """
    engine = engine_for(path.suffix)
    if engine is None:
        raise UserError(
            f"{path} is a program of torch.export. PyTorch runs code from such a file when it "
            "opens it, so cDAL does not open it. Give the .safetensors file that it was made of, "
            "or export that with --to onnx or --to openvino."
        )
    about = read_description(path)
    try:
        return engine(path, about), about.header
    except ImportError as error:
        extra = {suffix: name for name, suffix in GRAPHS.items()}[path.suffix]
        raise UserError(
            f'{path} needs a runtime that is not installed: pip install "cdal[{extra}]"'
        ) from error
    except Exception as error:  # each runtime has exceptions of its own
        raise UserError(f"{path} cannot be read: {error}. Export it again.") from error
