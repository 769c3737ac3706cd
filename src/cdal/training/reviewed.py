"""Training a model further on the cases of its results that a person accepted or corrected.

Some patients are held out: no training sees them, so that the model before and after the training
can be compared on their corrected masks. An accepted mask is the first model's own, so it says
nothing of whether the second is better. Which patients is decided by the hash of their name, and
kept in `review.json`: who was held out once stays so, whatever is reviewed later.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cdal.datasets.check import Check, check_listed
from cdal.datasets.derive import Derived, tuning_reasons
from cdal.datasets.partition import Split, groups_of
from cdal.datasets.reviews import keep_held_out
from cdal.evaluation.before_after import (
    BeforeAfter,
    before_after,
    keep_before_after,
    kept_before_after,
)
from cdal.evaluation.review.reviewed import Reviewed, reviewed_folder
from cdal.recipes.recipe import Recipe
from cdal.recipes.variants import fine_tuned
from cdal.runtime.errors import UserError, first_few
from cdal.runtime.events import Event, Report, silent
from cdal.segmenters.model_header import read_header
from cdal.training.calibrate import calibrate
from cdal.training.start import Start
from cdal.training.train import train

FEWEST, FEWEST_CORRECTED = 8, 4
"""Cases, and corrected ones of them, from which some are held out. Of fewer, too few would be left
to learn from."""

_LEAST, _SHARE = 2, 0.25
"""Least number of corrected cases that are held out, and their share."""


@dataclass(frozen=True)
class Corrections:
    """What a training on reviewed cases needs.

    Attributes:
        results: folder of the results.
        reviewed: the reviews, and the cases that can be used.
        check: check of these cases.
        derived: recipe of the training, and the reasons for it.
        patients: patient of each case; a patient that is not known is called as the case.
        groups: the same, but patients with an image in common are one.
        seen: cases that the model to start from has seen in training.
    """

    results: Path
    reviewed: Reviewed
    check: Check
    derived: Derived
    patients: Mapping[str, str]
    groups: Mapping[str, str]
    seen: frozenset[str]

    @property
    def fair(self) -> frozenset[str]:
        """Cases on which the models can be compared, if they are held out."""
        return self.reviewed.corrected - self.seen

    def held_out(self) -> frozenset[str]:
        """Names of the cases that are held out: those that were before, and new ones."""
        kept = self._with_patients(self.reviewed.reviews.held_out)
        groups = {self.groups[name] for name in kept}
        chosen = hold_out(self.groups, self.reviewed.corrected, groups, self.seen)
        return frozenset(name for name, group in self.groups.items() if group in chosen)

    def split(self) -> Split:
        """The parts: held-out cases are for the test, all others for training.

        Their names and patients are written into `review.json`.

        Raises:
            UserError: all cases are held out, or the file cannot be written.
        """
        chosen = self.held_out()
        names = keep_held_out(self.results, {*chosen, *(self.patients[name] for name in chosen)})
        kept, cases = self._with_patients(names), self.check.folder.cases
        left = tuple(case for case in cases if case.name not in kept)
        if not left:
            raise UserError(
                f"{self.results}: all {len(cases)} usable cases are held out. Review more of them."
            )
        return Split(left, (), tuple(case for case in cases if case.name in kept))

    def _with_patients(self, names: Collection[str]) -> frozenset[str]:
        """All cases of the patients who have one of these names, or a case with one of them."""
        hit = {
            group
            for name, group in self.groups.items()
            if name in names or self.patients[name] in names
        }
        return frozenset(name for name, group in self.groups.items() if group in hit)


def read_corrections(
    results: Path, start: Start, patient: str | None = None, report: Report = silent
) -> Corrections:
    """Read the reviewed cases of a folder of results, and derive a training on them.

    A case that cannot be used, as its mask has another shape than its image, is left out.

    Args:
        results: folder that `cdal predict` wrote, with reviews.
        start: model to train further.
        patient: regular expression for patients, see `DataSettings.patient`.
        report: receives the progress, in cases.

    Raises:
        UserError: as `reviewed_folder`, no case can be used, or they do not belong together.
    """
    reviewed = reviewed_folder(results, start.header)
    check = check_listed(reviewed.folder, report)
    if faults := {fault.case: fault.message for fault in check.errors if fault.case}:
        reviewed = reviewed.without(faults)
        check = check_listed(reviewed.folder, report)
    if check.errors:
        listed = "\n".join(f"  {finding.message}" for finding in check.errors[:5])
        raise UserError(
            f"{results}: some reviewed cases cannot be used. Review them again, or reject them:\n"
            f"{listed}"
        )
    cases = check.folder.cases
    patients = groups_of(reviewed.folder, cases, patient)
    groups = groups_of(check.folder, cases, patient)
    known = start.header.seen
    seen = frozenset(fact.name for fact in check.facts if known.holds(fact.name, fact.digest))
    return Corrections(results, reviewed, check, _derived(start, patient), patients, groups, seen)


def hold_out(
    groups: Mapping[str, str],
    corrected: Collection[str],
    kept: Collection[str],
    seen: Collection[str] = (),
) -> frozenset[str]:
    """Choose the patients whose cases are held out.

    A quarter of the corrected cases is held out and at least 2; none of fewer than 8 cases, or of
    fewer than 4 corrected ones. A patient whom the model has seen, or without whom less than half
    would be left to learn from, is not chosen.

    Args:
        groups: patient of each case.
        corrected: cases with a corrected mask.
        kept: patients that were held out before; they stay so.
        seen: cases that the model to train further has seen.

    Returns:
        The patients, with those who were kept.
    """
    sizes, of_corrected = Counter(groups.values()), Counter(groups[name] for name in corrected)
    if len(groups) < FEWEST or len(corrected) < FEWEST_CORRECTED:
        return frozenset(kept)
    chosen, known = set(kept), {groups[name] for name in seen}
    wanted = max(_LEAST, round(_SHARE * len(corrected)))
    for patient in sorted(set(of_corrected) - chosen - known, key=_order):
        if sum(of_corrected[one] for one in chosen) >= wanted:
            break
        more = {*chosen, patient}
        if all(
            2 * sum(counts[one] for one in more) <= counts.total()
            for counts in (sizes, of_corrected)
        ):
            chosen = more
    return frozenset(chosen)


def _order(patient: str) -> str:
    return hashlib.sha256(patient.encode(errors="surrogateescape")).hexdigest()


def _derived(start: Start, patient: str | None) -> Derived:
    """The model's recipe, for a short training without validation.

    The test cases are watched: the learning curve shows them, and nothing is chosen by it.
    """
    model = fine_tuned(start.header.recipe)
    recipe = replace(
        model,
        data=replace(model.data, partition="given", fold=0, validation=False, patient=patient),
        training=replace(model.training, watch_test=True),
    )
    reasons = {
        **tuning_reasons(start.name),
        "data.validation": "false: all cases that are not held out are trained on, and the last "
        "weights are kept",
    }
    return Derived(recipe, reasons)


def train_on_reviews(
    recipe: Recipe,
    corrections: Corrections,
    out: Path,
    start: Start,
    device: str = "auto",
    report: Report = silent,
) -> tuple[Path, BeforeAfter | None]:
    """Train a model further on reviewed cases, and compare it with what it was.

    No model is replaced: the new one is in the run folder. It is calibrated on the held-out cases,
    which changes no mask. The comparison leaves out accepted masks, which are the first model's
    own, and cases that it has seen in training.

    Args:
        recipe: recipe of the training, as `corrections.derived` or changed.
        corrections: the reviewed cases.
        out: run folder.
        start: model to train further.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, see `cdal.training.train.train`.

    Returns:
        Path of the new model, and both models' scores on the held-out corrected cases; `None` if
        there are none. The scores are also in the run folder (`cdal.evaluation.before_after`).

    Raises:
        UserError: as `train`, or a held-out case cannot be scored.
        KeyboardInterrupt: as `train`.
    """
    split = corrections.split()
    for line in _told(corrections, split):
        report(Event("training", message=line))
    folder = corrections.check.folder
    model = train(recipe, corrections.check, out, device, report, start, split)
    header = read_header(model)
    names = set(header.data["test"])  # those that the run began with
    tests = [case for case in folder.cases if case.name in names]
    if tests and recipe.training.calibrate and not header.quality:
        calibrate(model, model, folder, tests, (), None, device, report)
    fair = [case for case in tests if case.name in corrections.fair]
    compared = kept_before_after(out)
    if compared is None and fair:
        compared = before_after(start.path, model, folder, fair, device, report)
        keep_before_after(out, compared)
    return model, compared


def _told(corrections: Corrections, split: Split) -> list[str]:
    """What the user should know of the cases before the training."""
    counts = corrections.reviewed.counts
    tests = [case.name for case in split.test]
    lines = [
        *corrections.reviewed.left_out,
        f"{counts['accept']} accepted, {counts['fix']} corrected and {counts['reject']} rejected "
        f"cases: {len(split.train)} to train on, {len(tests)} held out"
        + (f" ({first_few(tests)})" if tests else ""),
    ]
    few = len(corrections.groups) < FEWEST or len(corrections.reviewed.corrected) < FEWEST_CORRECTED
    if not corrections.fair & set(tests):
        why = (
            f"there are fewer than {FEWEST} cases, or than {FEWEST_CORRECTED} corrected ones"
            if few
            else "the model has seen their patients in training, or one patient has most of them"
        )
        lines.append(
            f"no corrected case is held out to compare the models on: {why}. Review more cases, or "
            "score both models on other data (cdal evaluate)."
        )
    if known := sorted(corrections.seen & set(tests)):
        lines.append(
            f"{len(known)} held-out cases were seen by the model in training ({first_few(known)}): "
            "they are left out of the comparison."
        )
    return lines
