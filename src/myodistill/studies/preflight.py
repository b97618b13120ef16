"""Checks of the recordings of a run, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording, Repetition
from myodistill.distillation.digests import KnownDigests, digests
from myodistill.errors import DataError
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.splits import Split


@dataclass(frozen=True)
class ScoredFold:
    """The subjects that are scored in a fold.

    Attributes:
        split: The fold.
        subjects: Held-out subjects that are scored.
        k: Calibration repetitions.
    """

    split: Split
    subjects: Sequence[str]
    k: Collection[int]


def check_recordings(dataset: Dataset, folds: Sequence[ScoredFold]) -> KnownDigests:
    """Read every subject that takes part once, check the recordings, and return their digests.

    Args:
        dataset: Source of the recordings.
        folds: Of one protocol.

    Raises:
        DataError: A repetition that is needed is missing, too short or overlaps another, or there
            are fewer than two gestures to tell apart.
        LeakageError: Two repetitions hold the same signal.
    """
    duplicates = DuplicateFinder(dataset.facts.samples)
    known = {}
    split = folds[0].split
    training = {subject for fold in folds for subject in fold.split.pretraining}
    scored = {subject: fold for fold in folds for subject in fold.subjects}
    for subject in dict.fromkeys((*sorted(training), *scored)):
        recordings = dataset.recordings(subject)
        _require_lengths(recordings, dataset.facts.samples)
        if subject in training:
            _require(recordings, split.calibration(subject, split.repetitions))
        if subject in scored:
            _require_scorable(recordings, scored[subject], subject)
        known[subject] = digests(recordings, split)
        duplicates.add(recordings)
    duplicates.require_none()
    return tuple(known.items())


def _require_lengths(recordings: Sequence[Recording], samples: int) -> None:
    for recording in recordings:
        for note in recording.annotations:
            if note.stop - note.start < samples:
                raise DataError(
                    f"{_source(recording)}: expected at least {samples} samples of gesture "
                    f"{note.gesture} for one window, got {note.stop - note.start}; the recording "
                    f"is truncated, fetch it again"
                )


def _require_scorable(recordings: Sequence[Recording], fold: ScoredFold, subject: str) -> None:
    split = fold.split
    test = [recording for recording in recordings if recording.session in split.test_sessions]
    _require(recordings, split.unlabelled(subject, max(fold.k, default=0)))
    _require(recordings, split.test(subject))
    _require_gestures(test, split.test(subject), "to score")
    least = min(filter(None, fold.k), default=None)
    if least is not None:
        _require_gestures(recordings, split.calibration(subject, least), "to calibrate with")
    for recording in test:
        notes = sorted(recording.annotations, key=lambda note: note.start)
        for note, after in pairwise(notes):
            if after.start < note.stop:
                raise DataError(
                    f"{_source(recording)}: expected annotations that do not overlap, those at "
                    f"samples {note.start} and {after.start} do; check its labels"
                )


def _require(recordings: Sequence[Recording], repetitions: Collection[Repetition]) -> None:
    recorded = {repetition for repetition, _ in _performed(recordings)}
    if absent := set(repetitions) - recorded:
        raise DataError(
            f"windows: expected windows of {min(absent)}, there are none; it was not recorded or "
            f"not loaded, record it or leave {min(absent).subject:.40} out"
        )


def _require_gestures(
    recordings: Sequence[Recording], repetitions: Collection[Repetition], purpose: str
) -> None:
    gestures = {gesture for one, gesture in _performed(recordings) if one in repetitions}
    if len(gestures) < 2:
        first = min(repetitions)
        raise DataError(
            f"{first.subject:.40}/{first.session:.40}: expected at least 2 gestures {purpose} "
            f"(rest counts), got {len(gestures)}; there is nothing to tell apart, check the labels "
            f"of the recordings"
        )


def _performed(recordings: Iterable[Recording]) -> Iterable[tuple[Repetition, int]]:
    for recording in recordings:
        for note in recording.annotations:
            repetition = Repetition(recording.subject, recording.session, note.repetition)
            yield repetition, note.gesture


def _source(recording: Recording) -> str:
    return recording.source or f"{recording.subject}/{recording.session}"
