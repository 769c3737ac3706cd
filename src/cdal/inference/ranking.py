"""Unlabelled images in the order in which annotating them should help a model most."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from cdal.datasets.tables import PARTS
from cdal.imaging.image import Image, image_digest
from cdal.imaging.rows import Rows
from cdal.inference.case import digest_of_input, explained
from cdal.inference.decision import decide
from cdal.inference.features import image_features, together
from cdal.inference.footprint import need_room
from cdal.inference.inputs import Input, list_inputs
from cdal.inference.patients import find_patients
from cdal.inference.predict import predictor_of
from cdal.inference.predictor import Predictor
from cdal.inference.record import ResultsOf
from cdal.inference.sampling import Sampling
from cdal.inference.selection import select
from cdal.inference.signs import Signs
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import write_text
from cdal.runtime.text import text_cell
from cdal.segmenters.model_header import ModelHeader

METHODS = {
    "mixed": "expected loss of Dice, and unlike the images chosen before",
    "dice": "expected loss of Dice alone",
    "entropy": "mean entropy of a voxel alone",
    "random": "drawn at random; the model segments nothing",
}
"""Ways to order the images, with a description of each."""


@dataclass(frozen=True)
class Ranked:
    """An image and its place in the order.

    Attributes:
        path: path of the image.
        reason: why it has its rank, or none.
        rank: 1 for the first image to annotate; `None` if the image was not chosen.
        patient: patient of the image; empty if it is its own.
        score: what the method orders by, when the image was chosen; `None` for random draws.
        expected_dice: Dice that the model expects of its segmentation, mean of the classes; `None`
            if the image was not segmented.
        entropy: mean entropy of a voxel, in nats.
        nearest: path of the image chosen before that is most like it; empty if there is none.
        likeness: how much the two are alike, from 0 to 1.
    """

    path: str
    reason: str
    rank: int | None = None
    patient: str = ""
    score: float | None = None
    expected_dice: float | None = None
    entropy: float | None = None
    nearest: str = ""
    likeness: float | None = None


COLUMNS = (
    *("rank", "path", "patient", "score", "expected_dice"),
    *("entropy", "nearest", "likeness", "reason"),
)
"""Columns of the table."""


@dataclass(frozen=True)
class Ranking:
    """Outcome of `rank`.

    Attributes:
        rows: the chosen images in order; then the others, the most doubtful first.
        failed: message for each image that could not be used, by its path. They are among the rows.
        notes: lines for the user: how patients were told apart, copies, images left out.
    """

    rows: list[Ranked]
    failed: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> list[Ranked]:
        """The images to annotate, in order."""
        return [row for row in self.rows if row.rank is not None]

    def to_csv(self) -> str:
        """The rows as a table with the columns of `COLUMNS`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: _cell(value) for name, value in asdict(row).items()} for row in self.rows
        )
        return text.getvalue()


def rank(
    model: Path | str | Predictor,
    inputs: Collection[Path | str],
    count: int = 20,
    method: str = "mixed",
    patient: str | None = None,
    sampling: Sampling | None = None,
    series: str | None = None,
    out: Path | str | None = None,
    report: Report = silent,
) -> Ranking:
    """Order unlabelled images by how much annotating them should help the model.

    An image that cannot be read is reported, and the others are ranked. Of files with the same
    bytes only the first can be chosen. Images on which the model was trained, validated or tested
    are left out. The result does not depend on the order of the inputs.

    Args:
        model: a model as for `load`, or a predictor.
        inputs: files, folders of files, or folders with a DICOM series.
        count: number of images to choose.
        method: one of `METHODS`.
        patient: regular expression that finds the patient in the name of an image; see
            `cdal.inference.patients.find_patients`. A patient gets a second image after every
            patient has had one.
        sampling: options of sampling; those of the model's recipe if `None`. A predictor has its
            own. Its seed also decides the method `random`.
        series: number, description or UID of the DICOM series, for folders that hold several.
        out: file for the table (CSV); none is written if `None`.
        report: receives the progress, counted in images.

    Raises:
        UserError: the model or an option cannot be used, a patient cannot be found, or the table
            cannot be written.
    """
    if count < 1:
        raise UserError(f"count must be 1 or more; it is {count}.")
    if method not in METHODS:
        raise UserError(f"no method {method!r}. There are: {', '.join(METHODS)}.")
    if out is not None and (Path(out).is_dir() or not Path(out).parent.is_dir()):
        raise UserError(f"{out} cannot be written: expected a file in a folder that is there.")
    predictor = predictor_of(model, sampling)
    header = predictor.header
    earlier = ResultsOf(list(map(Path, inputs)))
    found, failed = list_inputs(
        inputs, earlier, series, header.image_channels, header.channel_files
    )
    sources = sorted({str(entry.path): entry for entry in found}.items())
    patients, note = find_patients([entry for _, entry in sources], patient)
    look = _Look(predictor, method)
    for number, (path, entry) in enumerate(sources):
        report(Event("ranking", entry.path.name, number, len(sources)))
        try:
            look(entry, patients[number])
        except Exception as error:  # no image may stop the others
            failed[path] = explained(path, error)
        report(Event("ranking", entry.path.name, number + 1, len(sources)))
    rows = _ordered(look.images, method, count, predictor.sampling.seed)
    lost = [Ranked(path, f"failed: {message}") for path, message in failed.items()]
    ranking = Ranking([*rows, *look.left_out, *lost], failed, [note, *look.notes()])
    if out is not None:
        write_text(Path(out), ranking.to_csv())
    return ranking


@dataclass(frozen=True)
class _Image:
    """What is known of an image that can be chosen.

    Attributes:
        row: its row, not chosen.
        group: its patient, or its path.
        loss: Dice that its segmentation is expected to lose, the mean of the classes except the
            background; 0 if the image was not segmented.
        features: numbers by which it is compared with others, if the method compares.
    """

    row: Ranked
    group: str
    loss: float = 0.0
    features: tuple[np.ndarray, ...] = ()


class _Look:
    """Looks at one image after the other.

    Attributes:
        images: images that can be chosen.
        left_out: copies, and images that are annotated already.
    """

    def __init__(self, predictor: Predictor, method: str) -> None:
        self.predictor, self.method = predictor, method
        self.images: list[_Image] = []
        self.left_out: list[Ranked] = []
        self._first: dict[str, str] = {}
        self._annotated = _annotated(predictor.header)
        self._counts = {"copies": 0, "annotated": 0}

    def __call__(self, entry: Input, patient: str) -> None:
        path, digest = str(entry.path), digest_of_input(entry)
        if first := self._first.get(digest):
            self._leave_out("copies", path, f"the same bytes as {first}")
            return
        with entry.open(None, self.predictor.header.image_channels) as image:
            known = self._annotated.get(image_digest(image)) if isinstance(image, Image) else None
            if known:
                self._leave_out("annotated", path, f"annotated: {known}")
            else:
                self.images.append(self._seen(entry, image, patient))
        if digest:
            self._first[digest] = path

    def notes(self) -> list[str]:
        """Lines for the user about what was left out."""
        words = {
            "copies": "files with the same bytes as another",
            "annotated": "images of the model's own training, validation and test",
        }
        return [f"left out: {count} {words[what]}" for what, count in self._counts.items() if count]

    def _leave_out(self, what: str, path: str, reason: str) -> None:
        self._counts[what] += 1
        self.left_out.append(Ranked(path, reason))

    def _seen(self, entry: Input, rows: Rows, patient: str) -> _Image:
        predictor, path = self.predictor, str(entry.path)
        frame = predictor.frame(rows, path)
        row = Ranked(path, "", patient="" if patient == path else patient)
        if self.method == "random":
            return _Image(row, patient)
        signs = Signs(len(predictor.header.classes))
        need_room(frame, predictor.recipe, len(predictor.header.classes), predictor.votes, (), path)
        for band in predictor.bands(frame, entry.name, path, signs=signs):
            signs.see_mask(decide(band.probability), band.probability)
        expected = signs.mean_expected_dice
        row = replace(row, expected_dice=expected, entropy=signs.mean_entropy)
        features: tuple[np.ndarray, ...] = ()
        if self.method == "mixed":
            read = predictor.reader(frame, path)
            features = (*image_features(read, frame.shape), signs.shares)
        # A line that was fitted to Dice rises, so it would not change the order.
        return _Image(row, patient, 1 - expected, features)


def _annotated(header: ModelHeader) -> dict[str, str]:
    """The images of the model's cases in words, by their checksums."""
    digests = header.data.get("images")
    _, before = header.seen_before
    known = dict.fromkeys(before, "a case of the model that this one started from")
    if not isinstance(digests, dict):
        return known
    return known | {
        digests[name]: f"{name}, a {part} case of the model"
        for part in PARTS
        for name in header.data.get(part) or ()
        if name in digests
    }


def _ordered(images: Sequence[_Image], method: str, count: int, seed: int) -> list[Ranked]:
    """The rows of the images: the chosen ones in order, then the others by their score."""
    if not images:
        return []
    if method == "random":
        scores = np.empty(len(images))
        scores[np.random.default_rng(seed).permutation(len(images))] = -np.arange(len(images))
    elif method == "entropy":
        scores = np.array([image.row.entropy for image in images], float)
    else:
        scores = np.array([image.loss for image in images])
    places = together([image.features for image in images]) if method == "mixed" else None
    picks = select(scores, [image.group for image in images], count, places)
    taken: Counter[str] = Counter()
    rows = []
    for number, pick in enumerate(picks, start=1):
        image = images[pick.index]
        taken[image.group] += 1
        nearest = "" if pick.nearest is None else images[pick.nearest].row.path
        row = replace(
            image.row,
            rank=number,
            score=None if method == "random" else pick.score,
            nearest=nearest,
            likeness=pick.likeness if nearest else None,
        )
        rows.append(replace(row, reason=_reason(row, method, taken[image.group])))
    chosen = {pick.index for pick in picks}
    others = sorted(set(range(len(images))) - chosen, key=lambda index: (-scores[index], index))
    return rows + [
        replace(images[index].row, reason=f"not among the first {count}") for index in others
    ]


def _reason(row: Ranked, method: str, time: int) -> str:
    """Why an image was chosen, in words."""
    words = {
        "random": "drawn at random",
        "entropy": f"entropy of {row.entropy or 0:.3g} nats a voxel",
    }.get(method, f"expected Dice {row.expected_dice or 0:.2f}")
    if row.likeness is not None:
        words += f"; {1 - row.likeness:.0%} new beside {Path(row.nearest).name}"
    return words + (f"; image {time} of its patient" if time > 1 else "")


def _cell(value: float | int | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return text_cell(str(value))
