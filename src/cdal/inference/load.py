"""Load a trained model."""

from __future__ import annotations

from pathlib import Path

from cdal.inference.graph_engine import GRAPHS, load_exported
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import find_model, read_header


def load(model: Path | str, sampling: Sampling | None = None, device: str = "auto") -> Predictor:
    """Load a model, ready to predict.

    Args:
        model: a `.safetensors` file, a run folder, the name of a shipped model, or a graph written
            by `export` (`.onnx`, `.xml`). A `.pt2` is refused, because opening it runs code.
        sampling: options of sampling; those of the model's recipe if `None`.
        device: `auto`, `cpu`, `cuda` or `mps`. An exported graph runs on the CPU.

    Raises:
        UserError: the model does not exist, is damaged, cannot run on the device, or cannot be
            sampled with these options.
    """
    path, sampling = find_model(model), sampling or Sampling()
    if path.suffix in GRAPHS.values():
        return _load_exported(path, sampling, device, str(model))
    recipe = sampling.of(read_header(path).recipe, path)
    # Imported here, because an exported model is loaded without PyTorch.
    from cdal.inference.torch_engine import TorchEngine
    from cdal.runtime.devices import find_device
    from cdal.segmenters.model_file import load_model

    segmenter, header = load_model(path, recipe, str(find_device(device)))
    return Predictor(TorchEngine(segmenter, recipe), header, recipe, sampling, path, str(model))


def _load_exported(path: Path, sampling: Sampling, device: str, name: str) -> Predictor:
    if device not in ("auto", "cpu"):
        raise UserError(
            f"{path}: an exported graph runs on the cpu here; the device is {device!r}. Take the "
            ".safetensors file."
        )
    engine, header = load_exported(path)
    steps = header.recipe.segmenter.diffusion_steps
    if sampling.timesteps not in (None, steps):
        raise UserError(
            f"{path}: the number of timesteps, {steps}, was fixed at the export. Export it again "
            "with --timesteps."
        )
    return Predictor(engine, header, sampling.of(header.recipe, path), sampling, path, name)
