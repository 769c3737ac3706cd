"""From a model's name to a predictor."""

from __future__ import annotations

from pathlib import Path

from cdal.inference.engine import Engine
from cdal.inference.graph_engine import GRAPHS, load_exported
from cdal.inference.predictor import Predictor
from cdal.recipes.variants import as_asked, with_timesteps
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader, find_model, read_header


def load(
    model: Path | str,
    timesteps: int | None = None,
    device: str = "auto",
    mirror: bool | None = None,
    components: int | None = None,
    temperature: float | None = None,
) -> Predictor:
    """A model, ready to predict.

    Args:
        model: a `.safetensors` file, a run folder, the name of a shipped model, or a graph that `export` wrote (`.onnx`, `.xml`,
            `.pt2`).
        timesteps: T of sampling instead of the recipe's; it must divide the T of training, 0 is the deterministic twin.
        device: `auto`, `cpu`, `cuda` or `mps`; a graph runs on the CPU.
        mirror: whether the votes see the mirror images in turn that the recipe allows (`data.flips`), each of which is encoded by
            itself, instead of what the recipe says (`data.mirror_votes`).
        components: how many connected components a segmentation keeps of each class, the largest, instead of the recipe's number
            (`data.components`); 0 keeps all. Probabilities and uncertainty are of all.
        temperature: of the probabilities instead of the model's own; 1 leaves them as the votes have them.

    Raises:
        UserError: there is no such model, it is damaged, or it cannot run there; no mirror image is possible; or a number is too
            low.
    """
    path = find_model(model)
    if temperature is not None and not temperature > 0:
        raise UserError(f"temperature must be more than 0; it is {temperature}.")
    if path.suffix in GRAPHS.values():
        engine, exported = _load_exported(path, timesteps, device)
        return Predictor(engine, exported, as_asked(exported.recipe, path, mirror, components), temperature)
    recipe = with_timesteps(read_header(path).recipe, timesteps, path)
    recipe = as_asked(recipe, path, mirror, components)
    from cdal.inference.torch_engine import TorchEngine
    from cdal.runtime.devices import find_device  # an exported model is loaded without PyTorch
    from cdal.segmenters.model_file import load_model

    segmenter, header = load_model(path, recipe, str(find_device(device)))
    return Predictor(TorchEngine(segmenter, recipe), header, recipe, temperature)


def _load_exported(path: Path, timesteps: int | None, device: str) -> tuple[Engine, ModelHeader]:
    if device not in ("auto", "cpu"):
        raise UserError(f"{path}: an exported graph runs on the cpu here; the device is {device!r}. Take the .safetensors file.")
    engine, header = load_exported(path)
    steps = header.recipe.segmenter.diffusion_steps
    if timesteps not in (None, steps):
        raise UserError(f"{path}: the number of timesteps, {steps}, was fixed at the export. Export it again with --timesteps.")
    return engine, header
