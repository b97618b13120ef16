"""Hashes of the raw recordings and annotations that results depend on."""

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
    """Hashes of one subject's recordings, by their use.

    Attributes:
        whole: Everything, which a training subject contributes.
        calibration: The calibration repetitions of a held-out subject, by K; at K = 0 the first
            repetition without its labels.
        test: The whole test recordings of a held-out subject.
    """

    whole: str
    calibration: tuple[str, ...]
    test: str


KnownDigests = tuple[tuple[str, SubjectDigests], ...]
"""Digests by subject, hashable, so that they can be passed to another process and cached."""


class FoldDigests:
    """The digests of a dataset's subjects, each computed when first asked for.

    Args:
        dataset: Whose recordings.
        split: Which sessions calibrate and are scored.
        known: Digests that are computed already.
    """

    def __init__(self, dataset: Dataset, split: Split, known: KnownDigests = ()) -> None:
        self.facts = facts_digest(dataset.facts)
        self._dataset = dataset
        self._split = split
        self._digests = dict(known)

    def of(self, subject: str) -> SubjectDigests:
        """Return the digests of a subject."""
        if subject not in self._digests:
            self._digests[subject] = digests(self._dataset.recordings(subject), self._split)
        return self._digests[subject]

    def of_history(self, subject: str) -> list[str]:
        """Return a digest of each day of the split's history."""
        if not self._split.history:
            return []
        recordings = self._dataset.recordings(subject)
        return [
            digest([_content(r, _prefixes(r)) for r in recordings if r.session == session])
            for session in self._split.history
        ]

    def training(self) -> str:
        """Return a digest of all that the training subjects contribute."""
        subjects = [(subject, self.of(subject).whole) for subject in self._split.pretraining]
        return digest(self.facts, self._split.narrowed().hash, subjects)


def facts_digest(facts: Facts) -> str:
    """Return the hash of a dataset's facts, without prose and what a split holds."""
    decisive = {
        name: value
        for name, value in asdict(facts).items()
        if name not in (*_PROSE, *_OF_THE_SPLIT)
    }
    return digest(decisive)


def digests(recordings: Sequence[Recording], split: Split) -> SubjectDigests:
    """Return the digests of one subject's recordings.

    Filtering is causal: a repetition depends on its recording up to the repetition's end only.
    """
    hashes = [_prefixes(recording) for recording in recordings]
    hashed = list(zip(recordings, hashes, strict=True))

    def calibration(k: int) -> str:
        part = []
        for recording, until in hashed:
            if recording.session != split.calibration_session:
                continue
            for note in recording.annotations:
                if note.repetition < max(k, 1):
                    label = note.gesture if k else None
                    span = (note.start, note.stop, note.repetition, label)
                    part.append((span, until[note.stop]))
        return digest(split.calibration_session, part)

    return SubjectDigests(
        whole=digest([_content(r, until) for r, until in hashed]),
        calibration=tuple(calibration(k) for k in range(split.repetitions + 1)),
        test=digest(
            [_content(r, until) for r, until in hashed if r.session in split.test_sessions],
            # The layout of all the subject's recordings decides the numbers of their windows.
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
    prefixes, begin = {}, 0
    for stop in sorted({note.stop for note in recording.annotations} | {len(signal)}):
        running.update(signal[begin:stop].data)
        prefixes[stop] = running.hexdigest()[:32]
        begin = stop
    return prefixes
