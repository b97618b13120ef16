"""The person whom a student decodes: recordings that calibrated it, and those that may score it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myodistill.bundle import Bundle
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording, Repetition
from myodistill.datasets.registry import DATASETS, open_dataset
from myodistill.distillation.newcomer import Newcomer, calibrated_on, everything
from myodistill.distillation.population import NOBODY
from myodistill.errors import BundleError, LeakageError, shown
from myodistill.provenance import require_scorable
from myodistill.signals.preprocessing import filtered
from myodistill.signals.windows import Indices, Windows, running
from myodistill.splits import Split, make_split


@dataclass(frozen=True)
class SubjectData:
    """A student with the recordings of the person it decodes.

    Attributes:
        student: Their bundle.
        dataset: Where they are recorded.
        split: The fold that held them out.
        subject: Their name there.
    """

    student: Bundle = field(repr=False)
    dataset: Dataset = field(repr=False)
    split: Split = field(repr=False)
    subject: str

    @classmethod
    def of(cls, student: Bundle, dataset: str | None = None) -> SubjectData:
        """Find the person by the provenance of their student.

        Args:
            student: Their bundle.
            dataset: As for :func:`~myodistill.datasets.registry.open_dataset`; if not given, what
                the run opened, as long as it is the same.

        Raises:
            BundleError: It belongs to no person, does not say where it is from, or the data at
                hand make another split.
            DataError: The dataset is not at hand.
            LeakageError: It has seen what would be scored, or hides what it has seen.
        """
        origin = student.origin
        if origin.get("population"):
            return cls._of_a_newcomer(student, dataset)
        if not origin.get("subject"):
            raise BundleError(
                f"{student.model}: expected a student calibrated for a person, got one of the "
                f"stage '{origin.get('stage')}'; take a bundle from a subject's folder"
            )
        wanted = {"opened": str, "identity": str, "fold": int, "split": str, "k": int}
        lacking = [name for name, kind in wanted.items() if not isinstance(origin.get(name), kind)]
        if lacking:
            raise BundleError(
                f"{student.model}: expected a bundle that says its {', '.join(lacking)}, this one "
                f"does not; train it by 'myodistill run'"
            )
        opened_dataset = open_dataset(dataset) if dataset is not None else _reopened(student)
        split = _split_of(opened_dataset, origin["fold"], origin["subject"], origin["split"])
        mine = split.narrowed(origin["subject"])
        if mine.hash != origin["split"]:
            raise BundleError(
                f"{student.model}: expected the split {origin['split']} that it was trained on, "
                f"the recordings at hand make {mine.hash}; point MYODISTILL_DATA to the same ones"
            )
        facts, spec = opened_dataset.facts, student.spec
        if (facts.spec(spec.samples), facts.unit) != (spec, student.unit):
            raise BundleError(
                f"{student.model}: expected recordings with the electrodes, rate, unit and gestures"
                f" that it was trained on, {facts.name[:40]} has others; name the "
                f"right one with --dataset"
            )
        require_scorable(student, split, origin["subject"])
        return cls(student, opened_dataset, split, origin["subject"])

    @classmethod
    def _of_a_newcomer(cls, student: Bundle, dataset: str | None) -> SubjectData:
        """Find a person whom no study held out by the recordings that they calibrated on."""
        origin = student.origin
        place = dataset if dataset is not None else str(origin.get("opened"))
        people = open_dataset(place)
        subject = str(origin.get("subject"))
        newest = str(origin.get("session"))
        worn = str(origin.get("recentred", newest))
        own = {r.session for r in student.seen if r.subject == subject} - ({worn} - {newest})
        implied = {Repetition(subject, newest, i) for i in range(max(int(origin["k"]), 1))}
        if lacking := sorted(implied - student.seen):
            raise LeakageError(
                f"leakage: expected a {student.model} that owns to {lacking[0]}, as its K implies, "
                f"it does not; calibrate again"
            )
        others = sorted(one for one in student.seen if one.subject != subject)
        if others and origin["population"] == NOBODY:
            raise LeakageError(
                f"leakage: expected a {student.model} that saw {shown(subject, 40)} alone, as it "
                f"names no population, it saw {others[0]}; calibrate again"
            )
        recordings = people.recordings(subject)
        order = dict.fromkeys(r.session for r in recordings)
        sessions = (*(name for name in order if name in own - {newest}), newest)
        known = calibrated_on(recordings, student.spec.gestures, sessions, int(origin["k"]))
        if known.digest != origin.get("identity"):
            raise BundleError(
                f"{student.model}: expected the recordings that it was calibrated on, "
                f"'{place[:80]}' has others or changed ones; say by --dataset which to take"
            )
        with_all = everything(recordings, known, worn)
        split = Split(
            dataset=people.facts.name,
            fold=1,
            folds=1,
            pretraining=(),
            heldout=(subject,),
            calibration_session=worn,
            test_sessions=(),
            repetitions=max(n.repetition for r in with_all.recordings for n in r.annotations) + 1,
            history=tuple(name for name in sessions if name != worn),
        )
        return cls(student, Newcomer(with_all, people.facts), split, subject)

    @cached_property
    def unseen(self) -> bool:
        """Whether there are repetitions to score that the student never saw."""
        return bool(self.split.test_sessions) or bool(self._left)

    @cached_property
    def _left(self) -> list[Recording]:
        """What a newcomer recorded beside what they calibrated on, a recording each repetition.

        Of a bundle that was re-centred only its session, whose frame it is in.
        """
        left = _cut(self.recordings, self.student.seen, seen=False)
        worn = self.student.origin.get("recentred")
        return [one for one in left if worn in (None, one.session)]

    @property
    def step(self) -> int:
        """Samples from one decision to the next, by the protocol."""
        return self.student.step

    @cached_property
    def recordings(self) -> list[Recording]:
        """All recordings, raw, read when first asked for."""
        return self.dataset.recordings(self.subject)

    @property
    def tests(self) -> list[Recording]:
        """The raw recordings that are scored.

        These are the test sessions; for a newcomer the repetitions that were not calibrated on, or
        where there are none (:attr:`unseen`) those that were.
        """
        if self.split.test_sessions:
            return [r for r in self.recordings if r.session in self.split.test_sessions]
        if not self._left and (worn := self.student.origin.get("recentred")):
            raise BundleError(
                f"{self.student.model}: expected a labelled repetition of session {shown(worn)} "
                f"beside the one that it was re-centred by, there is none; record one"
            )
        return self._left or _cut(self.recordings, self.student.seen, seen=True)

    @cached_property
    def windows(self) -> Windows:
        """All filtered windows, as for :meth:`Bundle.logits`.

        Raises:
            BundleError: The student has no person's pre-processing.
        """
        student = self.student
        if student.preprocessing is None:
            raise BundleError(
                f"{student.model}: expected a person's pre-processing, the bundle has none; "
                f"calibrate it for a person first"
            )
        sections = student.preprocessing.sections()
        samples = student.spec.samples
        return filtered(self.recordings, sections, samples=samples, step=self.step)

    @property
    def calibration(self) -> Windows:
        """The filtered windows that the student's frame was fitted on; none of them is scored."""
        windows, fitted = self.windows, self.student.preprocessing
        assert fitted is not None  # or there are no windows
        return windows.select({r for r in fitted.seen if r.subject == self.subject})

    @property
    def ranges(self) -> Windows:
        """Filtered windows of whole calibration recordings, for the ranges of 8-bit forms.

        A decoder in operation meets rest and the transitions between gestures, too: these are the
        calibration windows, and those between them with the label -1. What touches a repetition
        that the student did not calibrate on is left out, as is all that comes after.
        """
        known = self.calibration
        session = [self.split.calibration_session]
        stream = running(self.windows, self.recordings, sessions=session, step=self.step)
        ends = np.cumsum([len(recording.signal) for recording in self.recordings])
        starts, repetition_index = [known.starts], [known.repetition_index]
        for index in np.unique(stream.repetition_index):
            recording = self.recordings[index]
            begin = ends[index] - len(recording.signal)
            offsets = stream.starts[stream.repetition_index == index] - begin
            free, nearest = _between(recording, offsets, known)
            fresh = free & ~np.isin(offsets + begin, known.starts)
            starts.append(offsets[fresh] + begin)
            repetition_index.append(nearest[fresh])
        joined = np.concatenate(starts)
        labels = np.full(len(joined), -1)
        labels[: len(known)] = known.labels
        return replace(
            known, starts=joined, repetition_index=np.concatenate(repetition_index), labels=labels
        )

    @property
    def scored(self) -> Windows:
        """The filtered windows of the test sessions."""
        return self.windows.select(self.split.test(self.subject))


def _cut(
    recordings: Sequence[Recording], known: frozenset[Repetition], *, seen: bool
) -> list[Recording]:
    """Cut out the repetitions that are, or are not, among the known ones, each by itself."""
    return [
        replace(
            one,
            signal=one.signal[note.start : note.stop],
            annotations=(replace(note, start=0, stop=note.stop - note.start),),
        )
        for one in recordings
        for note in one.annotations
        if (Repetition(one.subject, one.session, note.repetition) in known) == seen
    ]


def _split_of(dataset: Dataset, fold: int, subject: str, wanted: str) -> Split:
    """Return a fold under the cross-validation that a hash is of; under the usual one if none."""
    if not dataset.pretraining_only() and 1 <= fold <= len(dataset.subjects()):
        split = make_split(dataset, fold, "leave-one-subject-out")
        if subject in split.heldout and split.narrowed(subject).hash == wanted:
            return split
    return make_split(dataset, fold)


def _reopened(student: Bundle) -> Dataset:
    """Open what the run opened, if it is still there and still the same.

    Raises:
        BundleError: It is not; the line asks for --dataset.
    """
    opened = student.origin["opened"]
    if opened not in DATASETS and not Path(opened).expanduser().exists():
        raise BundleError(
            f"{student.model}: expected the dataset '{opened[:80]}' that it was trained on, there "
            f"is none here; say where it is with --dataset"
        )
    reopened = open_dataset(opened)
    if reopened.identity() != student.origin["identity"]:
        raise BundleError(
            f"{student.model}: expected the recordings that it was trained on, '{opened[:80]}' has "
            f"others or changed ones; name the right one with --dataset"
        )
    return reopened


def _between(
    recording: Recording, starts: Indices, known: Windows
) -> tuple[NDArray[np.bool_], Indices]:
    """Return which windows of a recording belong to its calibration, and to which repetition.

    Args:
        recording: Of the calibration session.
        starts: First sample of each window in it.
        known: The calibration windows.
    """
    numbers = {repetition: index for index, repetition in enumerate(known.repetitions)}
    seen, stops = known.seen(), starts + known.samples
    subject, session = recording.subject, recording.session
    notes = sorted(recording.annotations, key=lambda note: note.start)
    known_notes = [note for note in notes if Repetition(subject, session, note.repetition) in seen]
    others = [note for note in notes if note not in known_notes]
    free, repetition_index = np.zeros(len(starts), bool), np.zeros(len(starts), np.intp)
    if not known_notes:
        return free, repetition_index
    last = max(note.stop for note in known_notes)
    end = min((note.start for note in others if note.start >= last), default=len(recording.signal))
    free = stops <= end
    for note in others:
        free &= (stops <= note.start) | (starts >= note.stop)
    for index, note in enumerate(known_notes):
        since = starts >= note.start if index else slice(None)
        repetition_index[since] = numbers[Repetition(subject, session, note.repetition)]
    return free, repetition_index
