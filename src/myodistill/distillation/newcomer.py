"""A person who is in no dataset: their sessions, and what is refused of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.quality import saturated_channels
from myodistill.datasets.recording import Annotation, Recording, require_same_signal
from myodistill.datasets.registry import open_dataset
from myodistill.errors import DataError, shown


@dataclass(frozen=True)
class Sessions:
    """One person's recordings, session by session.

    Attributes:
        subject: The person's name.
        recordings: Raw, the oldest session first.
        names: Of the sessions, the newest last.
        gestures: What the person may perform: the population's gestures, and then new ones.
        k: Repetitions of the newest session whose labels are used.
        missing: Gestures of which there is no repetition to learn from.
    """

    subject: str
    recordings: tuple[Recording, ...]
    names: tuple[str, ...]
    gestures: tuple[str, ...]
    k: int
    missing: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Hash of all signals and annotations."""
        parts = [
            (r.session, sha256(r.signal.tobytes()).hexdigest(), [asdict(n) for n in r.annotations])
            for r in self.recordings
        ]
        return digest(parts)

    def newest(self) -> Sessions:
        """Return the newest session alone."""
        recordings = tuple(one for one in self.recordings if one.session == self.names[-1])
        return replace(self, recordings=recordings, names=self.names[-1:])


class Newcomer(Dataset):
    """One person's sessions as a dataset without a session to score.

    Args:
        sessions: The person's.
        facts: Of the population.
    """

    def __init__(self, sessions: Sessions, facts: Facts) -> None:
        numbers = [n.repetition for r in sessions.recordings for n in r.annotations]
        self.facts = replace(
            facts,
            gestures=sessions.gestures,
            calibration_session=sessions.names[-1],
            test_sessions=(),
            repetitions=max(numbers) + 1,
        )
        self._sessions = sessions

    def subjects(self) -> tuple[str, ...]:
        """Return the one name."""
        return (self._sessions.subject,)

    def recordings(self, subject: str) -> list[Recording]:
        """Return the person's recordings."""
        self._check_subject(subject)
        return list(self._sessions.recordings)

    def identity(self) -> str:
        """Return what tells these recordings from others."""
        return self._sessions.digest


def sessions_of(
    recordings: Sequence[Recording] | Dataset | Path | str,
    facts: Facts,
    subjects: Sequence[str],
    k: int | None,
) -> Sessions:
    """Return what a population can calibrate on; refuse what it cannot.

    Args:
        recordings: Of one person, the oldest session first; or a dataset of one person, or the
            path of one, whose test sessions are left alone.
        facts: Of the population.
        subjects: The people in it.
        k: Repetitions of the newest session whose labels are used; None for all.

    Raises:
        DataError: They are of several people, were recorded otherwise, have fewer repetitions than
            ``k``, or tell nothing apart; or the person's name is taken.
    """
    if isinstance(recordings, str | Path):
        recordings = open_dataset(str(recordings))
    if isinstance(recordings, Dataset):
        recordings = of_one(recordings)
    made = list(recordings)
    for one in made:
        if not isinstance(one, Recording):
            raise DataError(
                f"calibrate: expected recordings, or the path of a dataset, got {shown(one)}"
            )
    people = sorted({one.subject for one in made})
    if len(people) != 1:
        raise DataError(
            f"calibrate: expected recordings of one subject, got {len(people)}"
            f"{': ' + shown(people) if people else ''}; choose those of one"
        )
    if people[0].casefold() in {subject.casefold() for subject in subjects}:
        raise DataError(
            f"calibrate: expected a person who is not in the population, {shown(people[0])} is; "
            f"calibrate somebody else, or give them another name"
        )
    gestures = _gestures(made, facts)
    made = [_labelled(one, gestures) for one in made]
    spec = replace(facts.spec(), gestures=gestures)
    require_same_signal(made, spec, facts.unit, what="calibrate")
    for one in made:
        _require_working(one)
    names = tuple(dict.fromkeys(one.session for one in made))
    newest = [one for one in made if one.session == names[-1]]
    count = _count(newest, k)
    if k == 0 or not any(one.annotations for one in newest):
        count = 0
        newest = [_unlabelled(one) for one in newest]
    earlier = [one for one in made if one.session != names[-1] and one.annotations]
    performed = {n.gesture for r in earlier for n in r.annotations}
    performed |= {n.gesture for r in newest for n in r.annotations if n.repetition < count}
    if performed and len(performed) < 2:
        raise DataError(
            f"calibrate: expected at least 2 gestures in what is learned from, got "
            f"{len(performed)}; there is nothing to tell apart, check the annotations"
        )
    if not performed and len(gestures) > len(facts.gestures):
        raise DataError(
            f"calibrate: expected a repetition of {shown(gestures[-1])}, which the population does "
            f"not know, got none; calibrate with k of at least 1"
        )
    missing = tuple(g for i, g in enumerate(gestures) if i not in performed) if performed else ()
    sessions = tuple(dict.fromkeys([*(one.session for one in earlier), names[-1]]))
    return Sessions(people[0], (*earlier, *newest), sessions, gestures, count, missing)


def calibrated_on(
    recordings: Sequence[Recording], gestures: tuple[str, ...], sessions: Sequence[str], k: int
) -> Sessions:
    """Return the sessions that a bundle was calibrated on, out of a person's recordings.

    Args:
        recordings: All of the person's, raw.
        gestures: That the bundle decides among.
        sessions: Names of the sessions that it saw, the newest last.
        k: Repetitions of the newest.

    Raises:
        DataError: A session is missing, or a gesture is none of the bundle's.
    """
    chosen: list[Recording] = []
    for name in sessions:
        mine = [_labelled(one, gestures) for one in recordings if one.session == name]
        if not mine:
            raise DataError(
                f"calibrate: expected the session {shown(name)} that the bundle was calibrated on, "
                f"there is none; give the same recordings"
            )
        newest = name == sessions[-1]
        chosen += [_unlabelled(one) for one in mine] if newest and not k else mine
    return Sessions(chosen[0].subject, tuple(chosen), tuple(sessions), gestures, k, ())


def everything(recordings: Sequence[Recording], known: Sessions, worn: str) -> Sessions:
    """Return all of a person's recordings, with those that a bundle was calibrated on first.

    Those without labels are left out, but for the session that the bundle is worn in.
    """
    seen = set(known.names)
    others = [_labelled(one, known.gestures) for one in recordings if one.session not in seen]
    kept = [
        one if one.annotations else _unlabelled(one)
        for one in others
        if one.annotations or one.session == worn
    ]
    return replace(known, recordings=(*known.recordings, *kept), names=(*known.names, worn))


def of_one(people: Dataset, subject: str | None = None) -> list[Recording]:
    """Return one person's recordings that nobody is going to be scored on.

    Args:
        people: The dataset.
        subject: Whose; None where there is one person.

    Raises:
        DataError: There are several and none is named, or there is no such person.
    """
    names, about = people.subjects(), people.facts
    if subject is None and len(names) != 1:
        raise DataError(
            f"{about.name}: expected recordings of one person, got those of {len(names)}; say whose"
        )
    recordings = people.recordings(names[0] if subject is None else subject)
    return [r for r in recordings if r.session not in about.test_sessions]


def _require_working(recording: Recording) -> None:
    """Refuse a saturated electrode; a flat one makes no recording in the first place."""
    bad = saturated_channels(recording.signal).tolist()
    if bad:
        raise DataError(
            f"{recording.source or recording.subject}: expected electrodes within their range, "
            f"electrode {', '.join(map(str, bad[:4]))} is saturated; record again, or let its "
            f"neighbours stand in for it (myodistill record --repair)"
        )


def _gestures(recordings: Sequence[Recording], facts: Facts) -> tuple[str, ...]:
    """Return the population's gestures, and behind them what the person performs besides."""
    performed = dict.fromkeys(
        one.gestures[note.gesture] for one in recordings for note in one.annotations
    )
    return (*facts.gestures, *(name for name in performed if name not in facts.gestures))


def _labelled(recording: Recording, gestures: tuple[str, ...]) -> Recording:
    """Return a recording with its labels numbered as in another list of gestures."""
    names = [recording.gestures[note.gesture] for note in recording.annotations]
    if unknown := sorted(set(names) - set(gestures)):
        raise DataError(
            f"{recording.source or recording.subject}: expected gestures among "
            f"{shown(', '.join(gestures))}, got {shown(unknown[0])}; calibrate anew"
        )
    notes = tuple(
        replace(note, gesture=gestures.index(name))
        for note, name in zip(recording.annotations, names, strict=True)
    )
    return replace(recording, gestures=gestures, annotations=notes)


def _unlabelled(recording: Recording) -> Recording:
    """Return a recording of which the first repetition, or all, is there without its labels.

    The number of the gesture means nothing then: re-centring reads no label.
    """
    notes = tuple(note for note in recording.annotations if note.repetition == 0)
    whole = Annotation(0, len(recording.signal), 0, 0)
    return replace(recording, annotations=notes or (whole,))


def _count(newest: Sequence[Recording], k: int | None) -> int:
    """Return how many repetitions of a session calibrate."""
    performed = {note.repetition for one in newest for note in one.annotations}
    there = next(i for i in range(len(performed) + 1) if i not in performed)
    if k is None:
        return there
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= there:
        raise DataError(
            f"calibrate: expected k from 0 to the {there} repetitions (0, 1, ...) of session "
            f"{shown(newest[0].session)}, got {shown(k, 20)}; record more of them"
        )
    return k
