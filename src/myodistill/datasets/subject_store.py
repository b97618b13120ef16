"""A person's own folder: their labelled recordings, session by session, as they are made.

::

    subject.json                 who, how it was recorded, and the sessions in their order
    sessions/<name>.safetensors  signals and annotations of a session
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from filelock import FileLock, Timeout
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from safetensors.torch import save

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Annotation, Recording, require_same_signal
from myodistill.errors import DataError, OutputError, Wanted, shown
from myodistill.files import plain_name, plain_names, sha256_of, write_bytes, write_text, writing
from myodistill.readers import read_json, read_tensors
from myodistill.validation import checked

CARD = "subject.json"
FORMAT = 1
_WANTED = Wanted("a person's folder", advice="restore it, or record again")
_NOTE = ("recording", "start", "stop", "gesture", "repetition")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Session:
    """A session of a person.

    Attributes:
        name: Of the session.
        recorded: When it was added, in ISO 8601.
        source: What it was made of.
        repetitions: How many there are; 0 where nothing is labelled.
        sha256: Of its file.
        signals: Hash of each recording's samples, by which a copy is known.
    """

    name: Annotated[str, Field(min_length=1)]
    recorded: str
    source: str
    repetitions: Annotated[int, Field(ge=0)]
    sha256: str
    signals: tuple[str, ...]


class SubjectStore(Dataset):
    """A person's sessions as a dataset of one, the newest of which calibrates; none is scored.

    Args:
        folder: Of the store.

    Raises:
        DataError: It is no such folder, was altered, or is from a newer version.

    Attributes:
        sessions: In the order in which they were recorded.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        card = read_json(folder / CARD, _WANTED)
        sealed = {name: value for name, value in card.items() if name != "card_sha256"}
        if card.get("format") != FORMAT:
            _WANTED.refuse(folder, f"format {shown(card.get('format'), 20)}, ours is {FORMAT}")
        if card.get("card_sha256") != digest(sealed):
            _WANTED.refuse(folder / CARD, "one that was altered since")
        name = checked(TypeAdapter(str), card.get("subject"), folder / CARD, _WANTED)
        self._subject = plain_name("subject", name)
        self.sessions = checked(
            TypeAdapter(tuple[Session, ...]), card.get("sessions"), folder / CARD, _WANTED
        )
        names = [session.name for session in self.sessions]
        if len(plain_names("session", names)) < len(names):
            _WANTED.refuse(folder / CARD, "a session that is named twice")
        facts = Facts.from_dict(card.get("facts"))
        self.facts = replace(
            facts,
            calibration_session=self.sessions[-1].name if self.sessions else "none",
            test_sessions=(),
            repetitions=max([1, *(session.repetitions for session in self.sessions)]),
        )

    @classmethod
    def create(cls, folder: Path, subject: str, facts: Facts) -> SubjectStore:
        """Make an empty folder for a person who records as the facts say.

        Raises:
            DataError: The name is no plain one.
            OutputError: The folder cannot be written, or holds a person already.
        """
        if (folder / CARD).exists():
            raise OutputError(f"{folder}: expected no person there yet, there is one")
        _write(folder, plain_name("subject", subject), facts, ())
        return cls(folder)

    def append(
        self, recordings: Sequence[Recording], session: str | None = None, source: str = ""
    ) -> SubjectStore:
        """Add a session; return the store with it.

        The file of the session is there before it is named in ``subject.json``.

        Args:
            recordings: Of this person, in any one session. A gesture that the person has not
                performed yet goes behind those that they have.
            session: Its name here; else the recordings' own.
            source: What they are, for people.

        Raises:
            DataError: They are another person's, were recorded otherwise, are here already, or the
                name is taken.
            OutputError: It cannot be written, or another process adds to the same folder.
        """
        with self._alone():
            now = SubjectStore(self._folder)  # as it is under the lock
            return now._append(recordings, session, source)

    def _append(
        self, recordings: Sequence[Recording], session: str | None, source: str
    ) -> SubjectStore:
        name = _session_of(recordings, self._subject, session)
        if name.casefold() in {one.name.casefold() for one in self.sessions}:
            raise DataError(
                f"{self._folder}: expected a new session, {shown(name)} is there; give it another "
                f"name (--session)"
            )
        known = self.facts.gestures
        performed = dict.fromkeys(
            one.gestures[note.gesture] for one in recordings for note in one.annotations
        )
        gestures = (*known, *(gesture for gesture in performed if gesture not in known))
        made = [_renamed(one, gestures) for one in recordings]
        spec = replace(self.facts.spec(), gestures=gestures)
        require_same_signal(made, spec, self.facts.unit, what=str(self._folder))
        hashes = [hashlib.sha256(one.signal.tobytes()).hexdigest() for one in made]
        for earlier in self.sessions:
            if set(hashes) & set(earlier.signals):
                raise DataError(
                    f"{self._folder}: expected new recordings, one is in session "
                    f"{shown(earlier.name)} already; record again"
                )
        content = _packed(made)
        write_bytes(self._file(name), content)
        performed_again = {note.repetition for one in made for note in one.annotations}
        added = Session(
            name,
            time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            source[:200],
            len(performed_again),
            hashlib.sha256(content).hexdigest(),
            tuple(hashes),
        )
        facts = replace(self.facts, gestures=gestures)
        _write(self._folder, self._subject, facts, (*self.sessions, added))
        return SubjectStore(self._folder)

    def subjects(self) -> tuple[str, ...]:
        """Return the one name."""
        return (self._subject,)

    def recordings(self, subject: str) -> list[Recording]:
        """Return the person's recordings, the oldest session first.

        Raises:
            DataError: It is somebody else, or the file of a session is missing or altered.
        """
        self._check_subject(subject)
        return [one for session in self.sessions for one in self._read(session)]

    def identity(self) -> str:
        """Return what tells these recordings from others."""
        return digest(self._subject, [(one.name, one.sha256) for one in self.sessions])

    def _read(self, session: Session) -> Iterator[Recording]:
        path = self._file(session.name)
        if sha256_of(path) != session.sha256:
            _WANTED.refuse(path, "a session that is missing or was altered since")
        tensors, _ = read_tensors(path, _WANTED)
        with _WANTED.reading(path):
            signal, notes = tensors["signal"].numpy(), tensors["notes"].tolist()
            ends = tensors["ends"].tolist()
            begins = [0, *ends[:-1]]
            if not ends or ends[-1] != len(signal) or sorted(ends) != ends:
                raise ValueError(f"recordings that do not fill the {len(signal)} samples")
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            mine = tuple(Annotation(*map(int, note[1:])) for note in notes if note[0] == number)
            source = f"{path} recording {number}"
            yield self._make(self._subject, session.name, signal[begin:end], mine, source)

    def _file(self, session: str) -> Path:
        return self._folder / "sessions" / f"{session}.safetensors"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self._folder / ".lock", timeout=10)
        with writing(self._folder):
            try:
                lock.acquire()
            except Timeout:
                raise OutputError(
                    f"{self._folder}: expected to be alone in this folder, another process adds a "
                    f"session; wait for it"
                ) from None
        try:
            yield
        finally:
            lock.release()


def _session_of(recordings: Sequence[Recording], subject: str, session: str | None) -> str:
    """Return the name of the one session of a person's recordings."""
    people = sorted({one.subject for one in recordings} - {subject})
    if people or not recordings:
        raise DataError(
            f"session: expected recordings of {shown(subject)}, got "
            f"{shown(people[0]) if people else 'none'}; record into a folder of their own"
        )
    names = {one.session for one in recordings}
    if len(names) > 1:
        raise DataError(
            f"session: expected one at a time, got {shown(sorted(names))}; add one after another"
        )
    return plain_name("session", session if session is not None else names.pop())


def _renamed(recording: Recording, gestures: tuple[str, ...]) -> Recording:
    notes = tuple(
        replace(note, gesture=gestures.index(recording.gestures[note.gesture]))
        for note in recording.annotations
    )
    return replace(recording, gestures=gestures, annotations=notes)


def _packed(recordings: Sequence[Recording]) -> bytes:
    notes = [
        [number, note.start, note.stop, note.gesture, note.repetition]
        for number, one in enumerate(recordings)
        for note in one.annotations
    ]
    signals = [torch.tensor(one.signal, dtype=torch.float32) for one in recordings]
    ends = torch.cumsum(torch.tensor([len(signal) for signal in signals]), dim=0)
    table = torch.tensor(notes, dtype=torch.int64).reshape(-1, len(_NOTE))
    return save({"signal": torch.cat(signals), "ends": ends, "notes": table})


def _write(folder: Path, subject: str, facts: Facts, sessions: Sequence[Session]) -> None:
    values: list[dict[str, Any]] = TypeAdapter(list[Session]).dump_python(
        list(sessions), mode="json"
    )
    card = {
        "format": FORMAT,
        "subject": subject,
        "facts": replace(facts, test_sessions=()).to_dict(),
        "sessions": values,
    }
    text = json.dumps(card | {"card_sha256": digest(card)}, indent=1, ensure_ascii=False)
    write_text(folder / CARD, text)
