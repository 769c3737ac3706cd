"""The models of a server, by name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from cdal.inference.load import load, need_sampling
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import Recipe
from cdal.segmenters.hub import is_hub_name, parse_name
from cdal.serve.refusals import missing

_KEPT = 4
"""Predictors with other timesteps, mirror images or components that are kept loaded."""


class Models:
    """The models, each loaded once.

    Args:
        models: models as for `cdal.inference.load.load`, or predictors.
        sampling: options of sampling that requests without options get.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        UserError: as `load`.
    """

    def __init__(
        self, models: Sequence[Path | str | Predictor], sampling: Sampling, device: str
    ) -> None:
        self.sampling, self.device = sampling, device
        self._lock = threading.Lock()
        self._loaded: dict[str, Predictor] = {}
        self._others: OrderedDict[tuple[str, Sampling], Predictor] = OrderedDict()
        for model in models:
            self.add(model)

    def __len__(self) -> int:
        return len(self._loaded)

    def add(self, model: Path | str | Predictor) -> str:
        """Load one more model, and return the name by which it can be asked for.

        Raises:
            UserError: as `load`.
        """
        if not isinstance(model, Predictor):
            model = load(model, self.sampling, self.device)
        with self._lock:
            short = name = _short_name(model.name)
            number = 2
            while name in self._loaded:
                name, number = f"{short}-{number}", number + 1
            self._loaded[name] = model
        return name

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order in which they were given."""
        return list(self._loaded)

    def named(self, name: str) -> Predictor:
        """The model with the sampling that the server was started with.

        Raises:
            HTTPException: 404, there is no such model.
        """
        try:
            return self._loaded[name]
        except KeyError:
            known = ", ".join(self._loaded) or "none; start the server with a model"
            raise missing(f"A model of this name (there are: {known})") from None

    def need_sampling(self, name: str, sampling: Sampling | None) -> None:
        """Refuse options that are not possible for a model, before anybody waits for it.

        Raises:
            HTTPException: 404, there is no such model.
            UserError: an option is not possible for it.
        """
        base = self.named(name)
        if sampling is not None:
            need_sampling(base, sampling, name)

    def sampled(self, name: str, sampling: Sampling | None) -> Predictor:
        """A model with other options of sampling. The weights are shared where that is possible.

        Raises:
            HTTPException: 404, there is no such model.
            UserError: an option is not possible for it.
        """
        base = self.named(name)
        if sampling in (None, base.sampling):
            return base
        assert sampling is not None  # by the line above
        if _recipes(base, sampling) == _recipes(base, base.sampling):
            return Predictor(
                base.engine,
                base.header,
                base.recipe,
                sampling,
                base.path,
                base.name,
                base.files,
            )
        with self._lock:
            key = name, sampling
            if key not in self._others:
                self._others[key] = load(base.name, sampling, self.device)
            self._others.move_to_end(key)
            while len(self._others) > _KEPT:
                self._others.popitem(last=False)
            return self._others[key]


def _recipes(base: Predictor, sampling: Sampling) -> list[Recipe]:
    """The recipes of a model's members with these options; a network is built by its recipe."""
    return [sampling.of(model.recipe, Path(base.name)) for model in base.header.models]


def _short_name(model: str) -> str:
    """Name of a model for its address: that of its file, or of its folder, without the path."""
    if is_hub_name(model):
        return parse_name(model.split(", ")[0]).name
    path = Path(model)
    name = path.stem if path.is_file() and path.suffix else path.resolve().name
    if path.is_file() and name == "model":
        name = path.resolve().parent.name
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name) or "model"
