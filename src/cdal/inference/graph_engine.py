"""Exported graphs, computed by ONNX Runtime or OpenVINO, without PyTorch."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
    channels = header.image_channels * (2 * data.neighbours + 1)
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
        ],
        "postprocessing": [
            "cut the padding off",
            "probabilities back to the image's own grid, linearly",
            *(
                [f"to the power 1 / {header.temperature}, and made to add up to 1 again"]
                if header.temperature
                else []
            ),
            "the largest class wins",
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

    def __init__(self, about: Description, name: str) -> None:
        self.random, self.name = about.random, name
        self.stochastic, self.parameters = about.random.timesteps > 0, about.parameters

    @abstractmethod
    def votes(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The graph's votes, `[V, K, *S]`."""

    def about(self) -> dict[str, Any]:
        """See `Engine.about`."""
        return {"device": self.name, "precision": "float32", "threads": thread_count()}

    def generator(self, *keys: int | str) -> np.random.Generator:
        """See `Engine.generator`. The draws differ from those of PyTorch."""
        return np.random.default_rng(seed_sequence(*keys))

    def sample(self, image: np.ndarray, votes: int, rng: np.random.Generator) -> np.ndarray:
        """See `Engine.sample`. The graph takes one image at a time."""
        drawn = [
            {"image": picture[None], **self.random.draw(picture.shape[1:], votes, rng)}
            for picture in image
        ]
        return np.stack([self.votes(inputs) for inputs in drawn], axis=1)


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
        self.graph = openvino.Core().compile_model(path, "CPU", settings)

    def votes(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `GraphEngine.votes`."""
        return self.graph({name: np.ascontiguousarray(value) for name, value in inputs.items()})[
            "votes"
        ]


class ProgramEngine(GraphEngine):
    """A program of `torch.export`. Only this engine needs PyTorch."""

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
    ".pt2": ProgramEngine,
}


def engine_for(suffix: str) -> Callable[[Path, Description], GraphEngine]:
    """The engine for graphs of this suffix.

    OpenVINO computes ONNX if it is installed, because it is faster on volumes (see the page on
    speed).
    """
    return (
        OpenVinoEngine
        if suffix == ".onnx" and find_spec("openvino") is not None
        else _ENGINES[suffix]
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{beside}: expected what cdal export wrote beside {path.name}; it cannot be read "
            f"({error}). Keep the two together."
        ) from error


def load_exported(path: Path) -> tuple[GraphEngine, ModelHeader]:
    """A graph that `cdal export` wrote, and the header of its model.

    Raises:
        UserError: the JSON file beside the graph is missing or damaged, the runtime is not
            installed, or the graph cannot be read.
    """
    about = read_description(path)
    try:
        return engine_for(path.suffix)(path, about), about.header
    except ImportError as error:
        extra = {suffix: name for name, suffix in GRAPHS.items()}[path.suffix]
        raise UserError(
            f"{path} needs a runtime that is not installed: pip install 'cdal[{extra}]'."
        ) from error
    except Exception as error:  # each runtime has exceptions of its own
        raise UserError(f"{path} cannot be read: {error}. Export it again.") from error
