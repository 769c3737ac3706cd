"""The cases of a training: in memory, decoded once to disk, or decoded whenever they are drawn.

A case on disk is a file of its own, named after the case, with a checksum of what it holds and a
key of what it was made from. It is mapped into memory, so processes on one machine share it, and
the system gives up what is not in use. A file that is damaged, or was made from something else, is
made anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cdal.datasets.cases import Case, load_case, load_cases, need_channels
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.recipes.settings import Cache, DataSettings
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import write_bytes
from cdal.runtime.version import __version__

_ABOUT = "cdal"
"""Name of the only entry of a file's header. The order of several would be random."""


class Cases(Sequence[Case]):
    """Cases, each of which is loaded when it is asked for.

    Args:
        files: files of the cases.
        load: function that loads a case.
    """

    def __init__(self, files: Sequence[CaseFiles], load: Callable[[CaseFiles], Case]) -> None:
        self.files, self.load = tuple(files), load

    def of(self, files: Sequence[CaseFiles]) -> Cases:
        """Other cases that are loaded the same way."""
        return Cases(files, self.load)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Case:  # type: ignore[override]
        return self.load(self.files[index])

    def __iter__(self) -> Iterator[Case]:
        return map(self.load, self.files)


def open_cases(
    files: Sequence[CaseFiles],
    folder: DataFolder,
    settings: DataSettings,
    cache: Cache,
    place: Path,
    report: Report = silent,
    share: float = 0.0,
) -> Cases:
    """Make cases ready for a training; every one is looked at once.

    Args:
        files: files of the cases.
        folder: data folder with its classes.
        settings: settings for the grid, channels and intensities.
        cache: see `TrainingSettings.cache`.
        place: folder for the cases on disk.
        report: function that receives an event for each case.
        share: share of the cases to begin after. Processes that begin at different ones make
            different files of a common cache.

    Raises:
        UserError: as for `load_cases`.
    """
    if cache == "memory":
        loaded = {case.name: case for case in load_cases(files, folder, settings, report)}
        return Cases(files, lambda one: loaded[one.name])

    def decode(one: CaseFiles) -> Case:
        return load_case(one, folder, settings)

    cases = Cases(files, OnDisk(place, folder, settings).load if cache == "disk" else decode)
    begin, first = int(share * len(files)), cases[0]
    for number, i in enumerate((*range(begin, len(files)), *range(begin)), start=1):
        need_channels(files[i], cases[i], first)
        report(Event("reading", files[i].name, number, len(files)))
    return cases


class OnDisk:
    """Decoded cases on disk.

    Args:
        place: folder of the files.
        folder: data folder with its classes.
        settings: settings for the grid, channels and intensities.
    """

    def __init__(self, place: Path, folder: DataFolder, settings: DataSettings) -> None:
        self.place, self.folder, self.settings = place, folder, settings
        self.checked: set[str] = set()
        """Names of the cases whose checksums were compared by this process."""

    def load(self, files: CaseFiles) -> Case:
        """Load a case from its file, which is made if it is not there or not right.

        Raises:
            UserError: as for `load_case`, or the file cannot be written.
        """
        name = hashlib.sha256(files.name.encode(errors="surrogateescape")).hexdigest()[:32]
        path = self.place / f"{name}.safetensors"
        case = self._read(path, files)
        if case is not None:
            return case
        case = load_case(files, self.folder, self.settings)
        content = save(
            {"image": case.image, "labels": case.labels}, {_ABOUT: self._about(files, case)}
        )
        write_bytes(path, content)
        self.checked.add(files.name)
        return case

    def _read(self, path: Path, files: CaseFiles) -> Case | None:
        """The case in a file; `None` if it is not there, damaged, or made from something else."""
        try:
            with safe_open(path, framework="pt") as file:
                about = (file.metadata() or {}).get(_ABOUT)
                image, labels = file.get_tensor("image"), file.get_tensor("labels")
        except (OSError, SafetensorError):
            return None
        case = Case(files.name, image, labels)
        if files.name not in self.checked:
            if about != self._about(files, case):
                return None
            self.checked.add(files.name)
        return case

    def _about(self, files: CaseFiles, case: Case) -> str:
        """The key of what a case is made from (files, settings, classes), and its checksum."""
        labels = [path for annotation in files.labels for path in annotation.paths]
        states = [(path, path.stat()) for path in (*files.images, *files.slices, *labels)]
        made_from = {
            "files": [(str(path), state.st_size, state.st_mtime_ns) for path, state in states],
            "settings": dataclasses.asdict(self.settings),
            "classes": [self.folder.classes, self.folder.values, self.folder.coding],
            "version": __version__,
        }
        key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
        return f"{key} {_checksum(case.image, case.labels)}"


def _checksum(image: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256(repr((image.shape, labels.shape)).encode())
    for tensor in (image, labels):
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
