"""The reviewed cases of a folder of results as a data folder.

The image of a case is that of `predictions.json`. Its label is the predicted mask if that was
accepted, and the corrected one in `reviewed/` otherwise (`cdal.datasets.reviews`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cdal.datasets.layout import Annotation, CaseFiles, DataFolder
from cdal.datasets.reviews import (
    REVIEWED,
    REVIEWS,
    Review,
    Reviews,
    name_of_case,
    read_reviews,
)
from cdal.evaluation.review.cases import Case, read_results
from cdal.imaging.formats import DICOM, format_of
from cdal.inference.case import digest_of_input
from cdal.inference.inputs import Input, input_of
from cdal.inference.patients import find_patients
from cdal.runtime.errors import UserError
from cdal.runtime.files import digest_of
from cdal.segmenters.model_header import ModelHeader


@dataclass(frozen=True)
class Reviewed:
    """The reviewed cases of a folder of results.

    Attributes:
        folder: those that were accepted or corrected, as a data folder. `about` has the patient of
            each case of which it is known.
        reviews: all reviews.
        corrected: names of the cases whose label is a corrected mask.
        left_out: message for each accepted or corrected case that cannot be used.
    """

    folder: DataFolder
    reviews: Reviews
    corrected: frozenset[str]
    left_out: tuple[str, ...]

    def without(self, faults: Mapping[str, str]) -> Reviewed:
        """These cases but for some, of which a message says what is wrong.

        Raises:
            UserError: no other is left.
        """
        cases = tuple(case for case in self.folder.cases if case.name not in faults)
        told = tuple(f"{name} is left out: {why}" for name, why in faults.items())
        if not cases:
            raise _none_left(self.folder.root, len(self.reviews.cases), told)
        folder, left_out = replace(self.folder, cases=cases), (*self.left_out, *told)
        return Reviewed(folder, self.reviews, self.corrected - set(faults), left_out)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of cases by verdict."""
        return Counter(review.verdict for review in self.reviews.cases.values())


def reviewed_folder(results: Path, header: ModelHeader) -> Reviewed:
    """List the accepted and the corrected cases of a folder of results.

    No image is opened. A case whose image or mask is missing, whose image or accepted mask was
    replaced after the review, or whose review cannot be read, is left out.

    Args:
        results: folder that `cdal predict` wrote.
        header: header of a model with the classes and channels of the results.

    Raises:
        UserError: the folder holds no results or no reviews, the results are of other classes, or
            no case can be used.
    """
    cases = {
        name_of_case(case.source, case.files.get("mask")): case
        for case in read_results(results).cases
    }
    reviews = read_reviews(results)
    if not reviews.cases and not reviews.broken:
        raise UserError(
            f"{results} holds no reviews: expected cases in {REVIEWS}. Review the results first "
            "(cdal serve, cdal view), and accept or correct some."
        )
    found: list[tuple[str, Input, Path]] = []
    left_out = [f"{name} is left out: {why}" for name, why in reviews.broken.items()]
    for name, review in sorted(reviews.cases.items()):
        if review.verdict == "reject":
            continue
        try:
            case = _case_of(cases, name, header.classes)
            mask = _mask_of(results, case, review)
            found.append((name, _input_of(case, review, header), mask))
        except UserError as error:
            left_out.append(f"{name} is left out: {error}")
    if not found:
        raise _none_left(results, len(reviews.cases), left_out)
    folder = _as_folder(results, found, header)
    corrected = frozenset(
        case.name for case in folder.cases if case.labels[0].paths[0].parent == results / REVIEWED
    )
    return Reviewed(folder, reviews, corrected, tuple(left_out))


def _none_left(results: Path, reviewed: int, left_out: Sequence[str]) -> UserError:
    first = f" {left_out[0]}" if left_out else ""
    return UserError(
        f"{results}: expected cases that were accepted or corrected; of {reviewed} reviewed ones, "
        f"none can be used.{first}"
    )


def _case_of(cases: Mapping[str, Case], name: str, classes: tuple[str, ...]) -> Case:
    """The case of this name, if its mask has the classes of the model."""
    if name not in cases:
        raise UserError(
            "predictions.json does not list it any more. Predict its image again, and review it."
        )
    own = tuple(found.name for found in cases[name].classes)
    if own and own != classes[1:]:
        raise UserError(
            f"expected the classes {', '.join(classes[1:])} of the model; it was segmented as "
            f"{', '.join(own)}. Start from a model of these."
        )
    return cases[name]


def _mask_of(results: Path, case: Case, review: Review) -> Path:
    """The mask that a review says is right."""
    if review.mask is not None:
        path = results / REVIEWED / review.mask
    elif "mask" in case.files:
        path = results / case.files["mask"]
    else:
        raise UserError("its mask was not saved (--save mask). Predict and review it again.")
    if not path.is_file():
        raise UserError(f"{path} is not there. Review it again.")
    if review.verdict == "accept" and review.digest and digest_of(path) != review.digest:
        raise UserError(f"{path} is another mask than the accepted one. Review it again.")
    return path


def _input_of(case: Case, review: Review, header: ModelHeader) -> Input:
    """The image of a prediction with its files, if it is still the one that was segmented."""
    entry = input_of(Path(review.input), case.series, header.image_channels, header.channel_files)
    known = {case.digest, review.image} - {""}
    if known and known != {digest_of_input(entry)}:
        raise UserError(
            f"its image {entry.path} has changed since it was segmented and reviewed. Predict and "
            "review it again."
        )
    return entry


def _as_folder(
    results: Path, found: Sequence[tuple[str, Input, Path]], header: ModelHeader
) -> DataFolder:
    """A data folder with the classes of the model.

    Args:
        results: folder of the results.
        found: name, image and mask of each case.
        header: header of the model.
    """
    inputs = [entry for _, entry, _ in found]
    stems = Counter(entry.name for entry in inputs)
    names = [entry.name if stems[entry.name] == 1 else name for name, entry, _ in found]
    patients, _ = find_patients(inputs, None)
    about = {
        name: {"patient": patient}
        for name, entry, patient in zip(names, inputs, patients, strict=True)
        if patient != str(entry.path)
    }
    cases = [
        _case_files(name, entry, mask, header.image_channels)
        for name, (_, entry, mask) in zip(names, found, strict=True)
    ]
    return DataFolder(
        results,
        tuple(sorted(cases, key=lambda case: case.name)),
        header.classes,
        tuple(range(len(header.classes))),
        about=about,
        layout=f"reviewed results: {REVIEWS} and {REVIEWED}/",
    )


def _case_files(name: str, entry: Input, mask: Path, channels: int) -> CaseFiles:
    label = (Annotation((("", mask),)),)
    found = format_of(entry.path)
    if found is DICOM and entry.files:
        return CaseFiles(name, (entry.path,), label, entry.files)
    many = channels > 1 and not entry.files and found is not None and found.fourth_axis
    return CaseFiles(name, entry.files or (entry.path,), label, channels=channels if many else None)
