"""What a server consists of, and what it does with its cases."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cdal.imaging.formats import is_dicom, suffix_of
from cdal.inference.inputs import list_inputs
from cdal.inference.outputs import OUTPUTS
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report
from cdal.serve.cases import Cases, Entry
from cdal.serve.forms import Form
from cdal.serve.jobs import Job, Jobs
from cdal.serve.models import Models
from cdal.serve.names import safe_name
from cdal.serve.opened import Opener
from cdal.serve.refusals import missing, unusable
from cdal.serve.settings import Serving
from cdal.serve.uploads import Upload, Uploads


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
        self.settings, self.models = settings, models
        self.uploads = Uploads(root, settings.uploads, 60 * settings.idle)
        headers = [models.named(name).header for name in models.names[:1]]
        channels = headers[0].image_channels if headers else 1
        channel_files = headers[0].channel_files if headers else None
        self.cases = Cases(results, data, self.uploads, channels, channel_files)
        self.opener = Opener(channels)
        self.jobs = Jobs(settings.queue, settings.seconds)

    def close(self) -> None:
        """Let the running computation end, and refuse those that wait."""
        self.jobs.close()

    def submit(
        self, entry: Entry, model: str, sampling: Sampling | None, save: Collection[str]
    ) -> Job:
        """Put the segmentation of a case into the queue.

        Raises:
            HTTPException: 404, there is no such model; 422, nothing can be saved under a name, or
                the server has no folder for results; and as `Jobs.submit`.
        """
        self.models.named(model)
        folder = entry.folder
        if folder is None:
            raise unusable("This server has no folder for results: start it with --out.")
        if unknown := [kind for kind in save if kind not in OUTPUTS]:
            raise unusable(
                f"Nothing called {', '.join(unknown)} can be saved; there are {', '.join(OUTPUTS)}."
            )

        def work(report: Report) -> Entry:
            predictor = self.models.sampled(model, sampling)
            written = predict(
                predictor, entry.inputs, folder, save=save or ("mask",), report=report
            )
            for message in written.failed.values():
                raise UserError(self.spoken(message))
            return self.cases.named(entry.id)

        return self.jobs.submit(entry.id, work)

    def spoken(self, message: str) -> str:
        """A message without the folders of the server."""
        for upload in self.uploads.listed():
            message = message.replace(f"{upload.folder / 'image'}/", "")
        for folder in (self.uploads.root, self.cases.results, self.cases.data):
            if folder is not None:
                message = message.replace(f"{folder}/", "")
        return message

    def take(self, upload: Upload, form: Form) -> None:
        """Find the image in the files of a form: one file, the files of its channels, or a series.

        Raises:
            HTTPException: 422, there is none, or more than one.
        """
        files = [received.path for received in form.files]
        if not files:
            raise unusable("The form has no file. Send the image as the part `file`.")
        if len(files) > 1 and is_dicom(files[0]):
            name = form.get("name") or form.files[0].folder
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

    def entry(self, name: str) -> Entry:
        """The case with this id; 404 if there is none."""
        return self.cases.named(name)

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
