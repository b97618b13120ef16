"""A person who is in no dataset, beside the people of a population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Recording, require_same_signal
from myodistill.datasets.registry import open_dataset
from myodistill.errors import DataError, shown


class Newcomer(Dataset):
    """The people of a dataset, and one person more, in memory.

    Args:
        people: The dataset.
        recordings: The person's, in the calibration session.
    """

    def __init__(self, people: Dataset, recordings: Sequence[Recording]) -> None:
        self.facts = people.facts
        self._people = people
        self._recordings = list(recordings)

    def subjects(self) -> tuple[str, ...]:
        """Return everybody's names, the newcomer's last."""
        return (*self._people.subjects(), self._recordings[0].subject)

    def recordings(self, subject: str) -> list[Recording]:
        """Return one subject's recordings."""
        if subject == self._recordings[0].subject:
            return list(self._recordings)
        return self._people.recordings(subject)

    def identity(self) -> str:
        """Return what tells these recordings from others."""
        mine = [
            (sha256(r.signal.tobytes()).hexdigest(), [asdict(note) for note in r.annotations])
            for r in self._recordings
        ]
        return digest(self._people.identity(), mine)


def session_of(
    recordings: Sequence[Recording] | Dataset | Path | str, facts: Facts
) -> list[Recording]:
    """Return a person's recordings as those of the population's calibration session.

    Raises:
        DataError: There is none, or they are of several people or sessions.
    """
    if isinstance(recordings, str | Path):
        recordings = open_dataset(str(recordings))
    if isinstance(recordings, Dataset):
        people, about = recordings.subjects(), recordings.facts
        if len(people) != 1:
            raise DataError(
                f"{about.name}: expected recordings of one person, got those of {len(people)}; "
                f"give recordings(subject) of the one who is to be calibrated"
            )
        every = recordings.recordings(people[0])
        recordings = [r for r in every if r.session == about.calibration_session]
    made = list(recordings)
    for one in made:
        if not isinstance(one, Recording):
            raise DataError(
                f"calibrate: expected recordings, or the path of a dataset, got {shown(one)}"
            )
    for what in ("subject", "session"):
        names = sorted({str(getattr(one, what)) for one in made})
        if len(names) != 1:
            raise DataError(
                f"calibrate: expected recordings of one {what}, got {len(names)}"
                f"{': ' + shown(names) if names else ''}; choose those of one"
            )
    return [replace(one, session=facts.calibration_session) for one in made]


def require_newcomer(
    recordings: Sequence[Recording], facts: Facts, subjects: Sequence[str], k: int | None
) -> int:
    """Refuse recordings that a population cannot calibrate on; return K.

    Args:
        recordings: Of one person and session.
        facts: Of the population.
        subjects: The people in it.
        k: What is asked for; None for all repetitions that there are and the population allows.

    Raises:
        DataError: They were recorded otherwise, have fewer repetitions than ``k``, or tell nothing
            apart; or the person's name is taken.
    """
    require_same_signal(recordings, facts.spec(), facts.unit, what="calibrate")
    name = recordings[0].subject
    if name.casefold() in {subject.casefold() for subject in subjects}:
        raise DataError(
            f"calibrate: expected a person who is not in the population, {shown(name)} is; "
            f"calibrate somebody else, or give them another name"
        )
    notes = [note for recording in recordings for note in recording.annotations]
    performed = {note.repetition for note in notes}
    there = next(i for i in range(len(performed) + 1) if i not in performed)
    most = min(there, facts.repetitions)
    count = most if k is None else k
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= most or not most:
        raise DataError(
            f"calibrate: expected k from 0 to the {most} repetitions (0, 1, ...) that were "
            f"recorded and that the population has, got {shown(k, 20)}; record more of them"
        )
    gestures = {note.gesture for note in notes if note.repetition < count}
    if count and len(gestures) < 2:
        raise DataError(
            f"calibrate: expected at least 2 gestures in the first {count} repetitions, got "
            f"{len(gestures)}; there is nothing to tell apart, check the annotations"
        )
    return count
