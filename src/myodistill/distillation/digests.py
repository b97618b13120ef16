"""What results depend on, as hashes of raw recordings and what is said of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Recording
from myodistill.splits import Split

_PROSE = ("title", "citation", "home")
_OF_THE_SPLIT = ("repetitions", "calibration_session", "test_sessions")


@dataclass(frozen=True)
class SubjectDigests:
    """Hashes of one subject's recordings, by what depends on them.

    Attributes:
        whole: Everything: what a training subject teaches.
        calibration: What a held-out subject calibrates with, by K; at K = 0 the first repetition
            without its labels.
        test: What a held-out subject is scored on: the test recordings, whole.
    """

    whole: str
    calibration: tuple[str, ...]
    test: str


Known = tuple[tuple[str, SubjectDigests], ...]
"""Digests by subject, in a form that another process can be given."""


class FoldDigests:
    """The digests of a dataset's subjects, each read when first asked for.

    Args:
        dataset: Whose recordings.
        split: Which sessions calibrate and are scored.
        known: Digests that need not be computed again.
    """

    def __init__(self, dataset: Dataset, split: Split, known: Known = ()) -> None:
        self.facts = facts_digest(dataset.facts)
        self._dataset = dataset
        self._split = split
        self._found = dict(known)

    def of(self, subject: str) -> SubjectDigests:
        """Return the digests of a subject."""
        if subject not in self._found:
            self._found[subject] = digests(self._dataset.recordings(subject), self._split)
        return self._found[subject]

    def training(self) -> str:
        """Return what changes with anything that the training subjects are to a network."""
        people = [(subject, self.of(subject).whole) for subject in self._split.pretraining]
        return digest(self.facts, self._split.narrowed().hash, people)


def facts_digest(facts: Facts) -> str:
    """Return the hash of what is fixed about a dataset, but for prose and what a split holds."""
    decisive = {
        name: value
        for name, value in asdict(facts).items()
        if name not in (*_PROSE, *_OF_THE_SPLIT)
    }
    return digest(decisive)


def digests(recordings: Sequence[Recording], split: Split) -> SubjectDigests:
    """Return the digests of one subject's recordings.

    Filtering is causal, so that a repetition depends on its recording up to its end only.
    """
    hashes = [_prefixes(recording) for recording in recordings]
    every = list(zip(recordings, hashes, strict=True))

    def calibration(k: int) -> str:
        part = []
        for recording, until in every:
            if recording.session != split.calibration_session:
                continue
            for note in recording.annotations:
                if note.repetition < max(k, 1):
                    label = note.gesture if k else None
                    place = (note.start, note.stop, note.repetition, label)
                    part.append((place, until[note.stop]))
        return digest(split.calibration_session, part)

    return SubjectDigests(
        whole=digest([_content(r, until) for r, until in every]),
        calibration=tuple(calibration(k) for k in range(split.repetitions + 1)),
        test=digest(
            [_content(r, until) for r, until in every if r.session in split.test_sessions],
            # Where windows are said to lie counts in all recordings of the subject.
            [(r.session, len(r.signal), [n.repetition for n in r.annotations]) for r in recordings],
        ),
    )


def _content(recording: Recording, until: dict[int, str]) -> tuple[Any, ...]:
    notes = [asdict(note) for note in recording.annotations]
    return recording.session, len(recording.signal), until[len(recording.signal)], notes


def _prefixes(recording: Recording) -> dict[int, str]:
    """Hash a signal from its beginning up to the end of each annotation, and to its own end."""
    signal = np.ascontiguousarray(recording.signal)
    running = hashlib.sha256(f"{signal.dtype} {signal.shape[1]}".encode())
    found, begin = {}, 0
    for stop in sorted({note.stop for note in recording.annotations} | {len(signal)}):
        running.update(signal[begin:stop].data)
        found[stop] = running.hexdigest()[:32]
        begin = stop
    return found
