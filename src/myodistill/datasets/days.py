"""One person's days as a dataset: each day is a subject, each trial of a day a session.

Decoding a person's later day from earlier ones is then what decoding a person from other people
is: days of history train, a held-out day is re-centred by, or calibrated on, its first trial, and
its other trials are scored. Training, calibration and the guard against leakage need no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Annotation, Recording
from myodistill.datasets.trees import File, natural
from myodistill.errors import DataError, unknown_name

_TRIAL = "trial{}"


class Days(Dataset):
    """The days of one person; subjects are the sessions of the dataset behind it, in order.

    All recordings of the person are held in memory.

    Args:
        dataset: With at least two sessions a person, and at least two repetitions a session.
        person: One of its subjects.

    Raises:
        DataError: The person is unknown, has a single day, or a day has a single trial.
    """

    def __init__(self, dataset: Dataset, person: str) -> None:
        facts = dataset.facts
        if facts.repetitions < 2:
            raise DataError(
                f"{facts.title}: expected at least 2 trials a day, of which the first calibrates, "
                f"got {facts.repetitions}; take a dataset with more"
            )
        self._dataset = dataset
        self._person = person
        self._takes: dict[str, list[Recording]] = {}
        for recording in dataset.recordings(person):
            self._takes.setdefault(recording.session, []).append(recording)
        if len(self._takes) < 2:
            raise DataError(
                f"{facts.title}: expected at least 2 days of {person:.40}, got {len(self._takes)}; "
                f"take a dataset with several sessions a person"
            )
        self._names = tuple(sorted(self._takes, key=natural))
        first, *others = (_TRIAL.format(number) for number in range(1, facts.repetitions + 1))
        self.facts = replace(
            facts,
            name=f"{facts.name}-{person}",
            title=f"{facts.title}, {person}",
            repetitions=1,
            calibration_session=first,
            test_sessions=tuple(others),
        )

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the days, in order."""
        return self._names

    def recordings(self, subject: str) -> list[Recording]:
        """Return the recordings of one day, trial by trial.

        Raises:
            DataError: The day is unknown, or its trials overlap.
        """
        if subject not in self._takes:
            raise DataError(unknown_name("day", subject, self._names))
        parts = [part for take in self._takes[subject] for part in _trials(take, subject)]
        return sorted(parts, key=lambda part: natural(part.session))

    def files(self) -> list[File]:
        """Return the files of the dataset behind it."""
        return self._dataset.files()

    def _made(self) -> object:
        return digest(self._dataset.identity(), self._person)


def _trials(take: Recording, day: str) -> list[Recording]:
    """Cut a recording into one for each trial that was performed in it."""
    parts: list[Recording] = []
    end = 0
    for number in sorted({note.repetition for note in take.annotations}):
        notes = [note for note in take.annotations if note.repetition == number]
        start, stop = min(note.start for note in notes), max(note.stop for note in notes)
        if start < end:
            raise DataError(
                f"{take.source or day}: expected trials one after another, trial {number + 1} "
                f"begins within the one before; check its labels"
            )
        parts.append(
            replace(
                take,
                subject=day,
                session=_TRIAL.format(number + 1),
                signal=take.signal[start:stop],
                annotations=_moved(notes, start),
            )
        )
        end = stop
    return parts


def _moved(notes: Sequence[Annotation], start: int) -> tuple[Annotation, ...]:
    """Return annotations of a part that begins at ``start``; it holds one repetition."""
    return tuple(
        replace(note, start=note.start - start, stop=note.stop - start, repetition=0)
        for note in notes
    )
