"""What a server consists of, and what it does with its cases."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cdal.datasets.reviews import Review, Verdict
from cdal.evaluation.review.opening import need_shape, read_mask
from cdal.imaging.annotations.geojson import write_geojson
from cdal.imaging.formats import is_dicom, suffix_of
from cdal.imaging.image import Image
from cdal.imaging.open import open_mask
from cdal.inference.inputs import list_inputs
from cdal.inference.outputs import OUTPUTS
from cdal.inference.predict import predict
from cdal.inference.record import sweep_results
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.serve.cases import Cases, Entry
from cdal.serve.changes import Changes
from cdal.serve.forms import Received
from cdal.serve.jobs import Job, Jobs
from cdal.serve.kept import Kept
from cdal.serve.layers import ALL, saved_as_layers
from cdal.serve.models import Models
from cdal.serve.names import safe_name
from cdal.serve.opened import Opener, files_of_entry, stamp_of
from cdal.serve.refusals import missing, outdated, unusable
from cdal.serve.reviews import keep_correction, keep_verdict, next_case, read_correction
from cdal.serve.settings import Serving
from cdal.serve.stoppable import stoppable
from cdal.serve.training import Training
from cdal.serve.uploads import Upload, Uploads

_PYRAMIDS, _OBJECTS = 4, 16
"""Large pictures whose smaller copies are kept, and masks whose objects are."""

_SWEEP = 20.0
"""Seconds between two looks for uploads that nobody asks for."""


class Site:
    """A server: its settings, models, queue, uploads and cases.

    Args:
        settings: options of the server.
        models: its models; none if it only shows results.
        root: folder for uploads, see `cdal.serve.uploads.upload_folder`.
        results: folder of results; `None` for none.
        data: folder of images; `None` for none.

    Raises:
        UserError: a folder cannot be used.
    """

    def __init__(
        self,
        settings: Serving,
        models: Models,
        root: Path,
        results: Path | None = None,
        data: Path | None = None,
    ) -> None:
        if results is not None and len(models):
            _need_writable(results)
            sweep_results(results)
        self.settings, self.models = settings, models
        self.uploads = Uploads(root, settings.uploads, 60 * settings.idle)
        headers = [models.named(name).header for name in models.names[:1]]
        channels = headers[0].image_channels if headers else 1
        channel_files = headers[0].channel_files if headers else None
        self.cases = Cases(results, data, self.uploads, channels, channel_files)
        self.opener = Opener(channels)
        self.changes = Changes()
        self.jobs = Jobs(settings.queue, settings.seconds, self.spoken)
        self.training = Training(models, results, self.spoken)
        self.pyramids = Kept(root / "tiles", _PYRAMIDS)
        self._objects = Kept(root / "objects", _OBJECTS)
        self._aliases: dict[str, str] = {}
        self._root, self._closed = root, threading.Event()
        threading.Thread(target=self._sweep, name="cdal-sweep", daemon=True).start()

    def close(self) -> None:
        """Let the running computation end, and refuse those that wait."""
        self._closed.set()
        self.jobs.close()
        self.training.stop()

    def join(self) -> None:
        """Wait for what is running, after `close`."""
        self.jobs.join()
        self.training.join()

    def _sweep(self) -> None:
        """Delete uploads that nobody asks for, until the site is closed."""
        while not self._closed.wait(min(_SWEEP, self.settings.idle * 15)):
            self.sweep()

    def sweep(self) -> None:
        """Delete uploads that nobody has asked for in a while, and that no job needs."""
        for name in self.uploads.idle():
            if not self.jobs.of_case(name):
                self.remove(name)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for a moment."""
        folder = Path(tempfile.mkdtemp(dir=self._root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def submit(
        self, entry: Entry, model: str, sampling: Sampling | None, save: Collection[str]
    ) -> Job:
        """Put the segmentation of a case into the queue.

        Raises:
            HTTPException: 404, there is no such model; 422, nothing can be saved under a name, or
                the server has no folder for results; and as `Jobs.submit`.
            UserError: an option of sampling is not possible for the model.
        """
        self.models.need_sampling(model, sampling)
        folder = entry.folder
        if folder is None:
            raise unusable("This server has no folder for results: start it with --out.")
        if unknown := [kind for kind in save if kind not in OUTPUTS and kind != ALL]:
            raise unusable(
                f"Nothing called {', '.join(unknown)} can be saved; there are {', '.join(OUTPUTS)}."
            )

        def work(job: Job) -> Entry:
            sampled = self.models.sampled(model, sampling)
            predictor = stoppable(sampled, job.check)
            try:
                kinds = self._kinds(entry, save, sampled.votes)
                written = predict(predictor, entry.inputs, folder, save=kinds, report=job.report)
            finally:
                if entry.origin == "upload":
                    self.uploads.clear(entry.id)
            for message in written.failed.values():
                raise UserError(message)
            return self.cases.named(entry.id)

        return self.jobs.submit(entry.id, work)

    def _kinds(self, entry: Entry, save: Collection[str], votes: int) -> Collection[str]:
        """What to save, with the layers of this image in the place of `layers`."""
        if ALL not in save:
            return save
        return saved_as_layers(save, self.opener.about(entry), votes)

    def spoken(self, message: str) -> str:
        """A message without the folders of the server: files are called by their names."""
        root, results, data = self._root, self.cases.results, self.cases.data
        inside = r"(/[^/\s'\":;,]+(/(image|results)(?![\w.-]))?)?"
        known = [(root, inside), (results, ""), (data, "")]
        for folder, more in known:
            if folder is None:
                continue
            for path in sorted({str(folder), str(folder.absolute()), str(folder.resolve())}):
                begin = rf"(?<![\w./-]){re.escape(path)}"
                message = re.sub(rf"{begin}{more}/", "", message)
        hidden = re.escape(str(root))
        return re.sub(rf"{hidden}(/[^\s'\":;,]*)?", "a temporary file", message)

    def take(self, upload: Upload, received: Sequence[Received], series: str = "") -> None:
        """Find the image in what was sent: one file, the files of its channels, or a series.

        Args:
            upload: where it lies.
            received: the files.
            series: name of the series, if it is one.

        Raises:
            HTTPException: 422, there is none, or more than one.
        """
        files = [file.path for file in received]
        if not files:
            raise unusable("The form has no file. Send the image as the part `file`.")
        if len(files) > 1 and is_dicom(files[0]):
            name = series or received[0].folder
            folder = upload.folder / "image" / safe_name(name, "series")
            gathered = upload.folder / "series"
            (upload.folder / "image").rename(gathered)
            folder.parent.mkdir()
            gathered.rename(folder)
            upload.name, upload.inputs = folder.name, (folder,)
            return
        # Of a header and its numbers, such as .mhd and .raw, the header is the image.
        images = [path for path in files if suffix_of(path) or is_dicom(path)] or files[:1]
        if len(images) > 1:
            header = self.models.named(self.models.names[0]).header if len(self.models) else None
            channels = len(images) if header is None else header.image_channels
            found, _ = list_inputs(images, (), None, channels, None)
            if len(found) != 1:
                raise unusable(
                    f"The form has {len(images)} images; expected one image: one file, the files "
                    "of its channels (NAME_0000, NAME_0001, ...), or those of a DICOM series."
                )
        upload.name, upload.inputs = images[0].name, tuple(images)

    def classes(self, entry: Entry) -> tuple[str, ...]:
        """Names of the classes of a case: those of its results, else of the first model.

        Empty if neither is there.
        """
        if entry.found is not None:
            return ("background", *(found.name for found in entry.found.classes))
        names = self.models.names
        return self.models.named(names[0]).header.classes if names else ()

    def correct(self, entry: Entry, path: Path, numbers: dict[int, str] | None = None) -> Review:
        """Save a corrected mask.

        Args:
            entry: the case.
            path: the mask, as a client has sent it.
            numbers: name of each number in it, if they are not the model's own.

        Raises:
            UserError: the mask cannot be read, or does not belong to the image.
        """
        self.changes.need_same(entry)
        with self.opener.open(entry) as image:
            if not isinstance(image, Image):
                raise UserError(f"{entry.name} is too large to be corrected here.")
            label = read_correction(path, image, self.classes(entry), numbers)
            return keep_correction(entry, image, label, self.opener)

    def judge(self, entry: Entry, verdict: Verdict) -> Review:
        """Save a verdict.

        Raises:
            HTTPException: 409, the image has changed since it was segmented; and as `keep_verdict`.
            UserError: as `keep_verdict`, or an accepted mask does not have the shape of its image.
        """
        self.changes.need_same(entry)
        case, mask = entry.found, entry.file("mask")
        if verdict == "accept" and mask and case and not case.digest and entry.inputs[0].exists():
            self._need_fitting(entry, mask)
        return keep_verdict(entry, verdict)

    def _need_fitting(self, entry: Entry, mask: Path) -> None:
        """Refuse a mask of another shape than its image; an older record tells no checksum."""
        with self.opener.open(entry) as rows, self.scratch() as folder:
            if isinstance(rows, Image):
                read_mask(files_of_entry(entry, self.opener.channels), rows)
                return
            with open_mask(mask, folder) as label:
                need_shape(mask, tuple(label.shape), tuple(rows.shape))

    def next(self) -> Entry | None:
        """The case to review next, see `next_case`; none whose image has changed."""
        listed = self.cases.listed()
        return next_case([one for one in listed if not self.changes.changed(one)])

    def tag(self, entry: Entry, *more: Path) -> str:
        """Checksum that changes with the files of a case."""
        return hashlib.sha256(repr(stamp_of(*entry.inputs, *more)).encode()).hexdigest()[:32]

    def objects(self, entry: Entry) -> Path:
        """The objects of a picture's mask as GeoJSON: those that were saved, or of the mask.

        Raises:
            HTTPException: 404, no mask was saved.
            UserError: the image is a volume, or the mask is damaged.
        """
        self.changes.need_same(entry)
        if saved := entry.file("geojson"):
            return saved
        mask = self.file(entry, "mask")
        shape = self.opener.about(entry).shape
        if len(shape) != 2:
            raise UserError(f"{entry.name} is a volume; objects are for pictures.")

        def make(folder: Path) -> None:
            with open_mask(mask, folder) as rows:
                need_shape(mask, tuple(rows.shape), shape)

                def read(start: int, stop: int) -> np.ndarray:
                    return rows.rows(start, stop)[0]

                names = self.classes(entry)
                write_geojson(folder / "objects.geojson", read, (shape[0], shape[1]), names)

        return self._objects.get(self.tag(entry, mask), make) / "objects.geojson"

    def message(self, entry: Entry, changed: bool) -> str:
        """What a person should know of a case: why its last segmentation failed, or what to do."""
        failed = self.jobs.failure(entry.id) or entry.failed
        return failed or (str(outdated(entry.name).detail) if changed else "")

    def entry(self, name: str) -> Entry:
        """The case with this id; 404 if there is none."""
        return self.cases.named(name)

    def call(self, upload: Upload, name: str) -> None:
        """Let an upload be found by a client's name for it; an earlier one of that name goes."""
        before = self._aliases.get(name)
        self._aliases = {
            known: identity
            for known, identity in {**self._aliases, name: upload.id}.items()
            if self.uploads.has(identity)
        }
        if before is not None and self.uploads.has(before):
            self.remove(before)

    def find(self, name: str) -> Entry:
        """The case with this id, the name that a client gave it, or the name of its image.

        Raises:
            HTTPException: 404, there is none, or several have this name.
        """
        if name in self._aliases and self.uploads.has(self._aliases[name]):
            return self.entry(self._aliases[name])
        entries = self.cases.listed()
        for found in (
            [entry for entry in entries if entry.id == name],
            [entry for entry in entries if name in (entry.name, entry.stem)],
        ):
            if len(found) == 1:
                return found[0]
        raise missing("An image of this name")

    def remove(self, name: str) -> None:
        """Delete an upload, its results and its jobs.

        Raises:
            HTTPException: 404, there is no such upload.
        """
        upload = self.uploads.named(name)
        self.jobs.forget(name)
        self.cases.forget(upload.results)
        self.uploads.remove(name)

    def file(self, entry: Entry, kind: str) -> Path:
        """A result of a case.

        Raises:
            HTTPException: 404, it was not saved.
        """
        path = entry.file(kind)
        if path is None:
            raise missing(f"The result {kind} of this case")
        return path


def _need_writable(results: Path) -> None:
    """Refuse a folder for results that cannot be made or written, before anybody waits for one."""
    nearest = next(
        path for path in (results.absolute(), *results.absolute().parents) if path.exists()
    )
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(
            f"{results}: expected a folder for results that can be written; {nearest} is "
            f"{'not writable' if nearest.is_dir() else 'a file'}. Give another --out."
        )
