"""A person's own folder: their recordings, session after session (day after day).

::

    subject.json                  whose it is, facts, and the sessions in the order recorded
    sessions/<name>.safetensors   a session: signal and annotations of each of its recordings

A session is appended whole or not at all: its file is written first, and is part of the store once
``subject.json`` names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Annotation, Recording, Signal, require_same_signal
from myodistill.datasets.subject_card import (
    CARD,
    MOST_REPETITIONS,
    WANTED,
    Session,
    SubjectCard,
    file_of,
    read_card,
    write_card,
)
from myodistill.datasets.trees import File
from myodistill.errors import DataError, one_line, shown
from myodistill.files import file_sha256, plain_name, plain_names, write_bytes
from myodistill.lock import locked_folder
from myodistill.readers import read_tensors


class _New(NamedTuple):
    """A session that is to be written, and its file's content."""

    session: Session
    content: bytes


class SubjectStore(Dataset):
    """One person's recordings as a dataset; nothing of it is scored, the newest labels calibrate.

    Args:
        folder: Of the store.

    Raises:
        DataError: The folder is no store, is damaged or altered, or of a newer version.

    Example:
        >>> store = SubjectStore.create("people/anna", "anna", dataset.facts)
        >>> store.append(dataset.recordings("anna"), "monday")
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._use(read_card(self._folder))

    @classmethod
    def create(cls, folder: Path | str, subject: str, facts: Facts) -> SubjectStore:
        """Return a store for a person of whom nothing is recorded yet.

        Nothing is written before the first session is.

        Args:
            folder: A new or empty one.
            subject: The person's name.
            facts: Of the recordings to come: electrodes, rate, unit, gestures, windows.

        Raises:
            DataError: The name would not do as that of a folder, or there is something already.
        """
        store = cls.__new__(cls)
        store._folder = Path(folder)
        with WANTED.reading(folder):
            there = store._folder.is_dir() and any(
                one.name != "run.lock" for one in store._folder.iterdir()
            )
        if there:
            raise DataError(
                f"{folder}: expected a new or empty folder for {shown(subject)}, there is "
                f"something in it; choose another, or open the store that is there"
            )
        card = SubjectCard(subject=plain_name("subject", subject), facts=facts, sessions=())
        store._use(card)
        return store

    def _use(self, card: SubjectCard) -> None:
        self._card = card
        self.facts = card.now()
        self._files = {
            session.file: File(session.file, str(path), path.read_bytes, path, stamp=session.sha256)
            for session in card.sessions
            for path in [self._folder / session.file]
        }

    def _made(self) -> object:
        return self._card.subject  # all else lies in the files, which their hashes tell apart

    @property
    def subject(self) -> str:
        """The person's name."""
        return self._card.subject

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions, in the order recorded."""
        return self._card.sessions

    def subjects(self) -> tuple[str, ...]:
        """Return the person's name, alone."""
        return (self.subject,)

    def recordings(self, subject: str) -> list[Recording]:
        """Read the recordings of all sessions, in the order recorded.

        Raises:
            DataError: The subject is another one, or a file is missing, damaged or altered.
        """
        self._check_subject(subject)
        return [one for session in self.sessions for one in self._read_session(session)]

    def _read_session(self, session: Session) -> Iterator[Recording]:
        path = self._folder / session.file
        with WANTED.reading(path):
            if file_sha256(path) != session.sha256:
                WANTED.refuse(path, "a file that was altered since it was recorded")
        tensors, _ = read_tensors(path, WANTED)
        names = [(f"{i}.signal", f"{i}.annotations") for i in range(len(session.signals))]
        if set(tensors) != {name for pair in names for name in pair}:
            WANTED.refuse(path, f"other arrays than those of {len(names)} recordings")
        for number, (signal_name, notes_name) in enumerate(names):
            with WANTED.reading(path):
                signal = tensors[signal_name].numpy()
                notes = _annotations(tensors[notes_name].numpy())
                if signal.dtype != np.float32:
                    raise ValueError(f"a signal of {signal.dtype}")
            source = f"{path} recording {number}"
            yield self._make(self.subject, session.name, signal, notes, source)

    def append(
        self, recordings: Sequence[Recording], session: str | None = None, source: str = ""
    ) -> Session:
        """Add a session, whole or not at all.

        Args:
            recordings: Raw, of this person and one session; those without annotations are for
                what needs no labels. Gestures that are new stand after the known ones.
            session: Its name in the store; the recordings' own by default.
            source: What it came from, in a few words.

        Returns:
            What the store says of it.

        Raises:
            DataError: The recordings are of another person or of several sessions, were made
                otherwise, or are here already, as is a session of that name.
            OutputError: Another process is writing here, or the disk cannot be written.
        """
        names = {one.session for one in recordings}
        if session is None and len(names) != 1:
            raise DataError(
                f"{self._folder}: expected recordings of one session, got {len(names)}"
                f"{': ' + shown(sorted(names)) if names else ''}; say which they are"
            )
        (added,) = self.extend({session or min(names): recordings}, source)
        return added

    def extend(
        self, sessions: Mapping[str, Sequence[Recording]], source: str = ""
    ) -> tuple[Session, ...]:
        """Add sessions by name, all or none of them; otherwise as :meth:`append`."""
        card, files = self._plan(sessions, source)  # what is refused leaves no folder behind
        with locked_folder(self._folder, advice="wait for it"):
            if self._others_wrote():
                card, files = self._plan(sessions, source)
            for new in files:
                write_bytes(self._folder / new.session.file, new.content)
            write_card(self._folder, card)
            self._use(card)
        return tuple(new.session for new in files)

    def _others_wrote(self) -> bool:
        """Take note of what other processes have written since this object read the store."""
        there = read_card(self._folder) if (self._folder / CARD).exists() else self._card
        if there.subject != self.subject:
            raise DataError(
                f"{self._folder}: expected the recordings of {shown(self.subject)}, those of "
                f"{shown(there.subject)} are there; choose another folder"
            )
        news = there != self._card
        self._use(there)
        return news

    def _plan(
        self, sessions: Mapping[str, Sequence[Recording]], source: str
    ) -> tuple[SubjectCard, list[_New]]:
        """Return what the store will say with some sessions more, and their files."""
        if not sessions:
            raise DataError(f"{self._folder}: expected a session to add, got none")
        self._require_mine([one for recordings in sessions.values() for one in recordings])
        facts = _grown(self._folder, self._card.facts, sessions)
        known = {one.name: one.recorded for one in self.sessions}
        plain_names("session", [*known, *sessions])
        again = next((name for name in sessions if name in known), None)
        if again is not None:
            raise DataError(
                f"{self._folder}: expected a new session, {shown(again)} was recorded on "
                f"{known[again]:%Y-%m-%d}; give this one another name"
            )
        files = [_new_session(*named, source) for named in sessions.items()]
        every = (*self.sessions, *(new.session for new in files))
        _require_once(self._folder, every)
        return SubjectCard(subject=self.subject, facts=facts, sessions=every), files

    def _require_mine(self, recordings: Sequence[Recording]) -> None:
        others = sorted({one.subject for one in recordings} - {self.subject})
        if others:
            raise DataError(
                f"{self._folder}: expected recordings of {shown(self.subject)}, got those of "
                f"{shown(others[0])}; choose another folder, or say that they are one person"
            )


def _grown(folder: Path, facts: Facts, sessions: Mapping[str, Sequence[Recording]]) -> Facts:
    """Return the facts with the gestures that are new in some sessions, if all else is alike."""
    for name, recordings in sessions.items():
        if not recordings:
            raise DataError(f"{folder}: expected recordings in session {shown(name)}, got none")
        for one in recordings:
            spec = replace(facts, gestures=one.gestures).spec()
            require_same_signal([one], spec, facts.unit, what=str(folder))
            shorter, longer = sorted((facts.gestures, one.gestures), key=len)
            if longer[: len(shorter)] != shorter:
                raise DataError(
                    f"{folder}: expected the gestures {shown(list(facts.gestures), 70)} in this "
                    f"order, new ones after them, got {shown(list(one.gestures), 70)}"
                )
            facts = replace(facts, gestures=longer)
    return facts


def _require_once(folder: Path, sessions: Sequence[Session]) -> None:
    holders: dict[str, str] = {}
    for one in sessions:
        for signal in one.signals:
            if signal in holders:
                raise DataError(
                    f"{folder}: expected every recording once, one of session {shown(one.name)} is "
                    f"the same as one of {shown(holders[signal])}; leave it out"
                )
            holders[signal] = one.name


def _new_session(name: str, recordings: Sequence[Recording], source: str) -> _New:
    arrays: dict[str, Any] = {}
    for number, one in enumerate(recordings):
        notes = [(n.start, n.stop, n.gesture, n.repetition) for n in one.annotations]
        arrays[f"{number}.signal"] = np.ascontiguousarray(one.signal, dtype=np.float32)
        arrays[f"{number}.annotations"] = np.array(notes, dtype=np.int64).reshape(-1, 4)
    content = save(arrays)
    performed = {note.repetition for one in recordings for note in one.annotations}
    session = Session(
        name=name,
        recorded=datetime.now(UTC).replace(microsecond=0),
        source=one_line(source, 200),
        file=file_of(name),
        sha256=hashlib.sha256(content).hexdigest(),
        repetitions=len(performed),
        signals=tuple(_content(arrays[f"{i}.signal"]) for i in range(len(recordings))),
    )
    return _New(session, content)


def _content(signal: Signal) -> str:
    return hashlib.sha256(f"{signal.shape}".encode() + signal.tobytes()).hexdigest()


def _annotations(rows: np.ndarray[Any, Any]) -> tuple[Annotation, ...]:
    if rows.dtype != np.int64 or rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"annotations of shape {rows.shape} and {rows.dtype}")
    notes = tuple(Annotation(*row) for row in rows.tolist())
    if any(not 0 <= note.repetition < MOST_REPETITIONS for note in notes):
        raise ValueError(f"annotations with repetitions that are not 0 to {MOST_REPETITIONS - 1}")
    return notes
