"""What is recorded on the page goes into a person's own folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from myodistill.datasets.recording import (
    Annotation,
    Recording,
    Signal,
    SignalSpec,
    require_same_signal,
)
from myodistill.errors import DataError, shown

if TYPE_CHECKING:
    from myodistill.datasets.dataset import Facts

LONGEST = 60.0
"""Seconds of the longest recording of a gesture by hand."""
SHORTEST = 0.5
"""Seconds of the shortest that is kept."""


class Keeper:
    """A person's folder that sessions are added to; it is made with the first.

    Args:
        folder: Of the subject store, or of one to be.
        subject: The person's name; empty for the store's own.
        facts: Of the recordings.

    Attributes:
        folder: As above.
        subject: The person's name.

    Raises:
        DataError: The folder is another person's, or of another kind of recordings.
    """

    def __init__(self, folder: Path, subject: str, facts: Facts) -> None:
        from myodistill.datasets.subject_card import CARD
        from myodistill.datasets.subject_store import SubjectStore

        self.folder = folder
        if not (folder / CARD).is_file():
            if not subject:
                raise DataError(f"{folder}: expected --subject, as nothing is recorded there yet")
            self._store = SubjectStore.create(folder, subject, facts)
        else:
            self._store = SubjectStore(folder)
            if subject and self._store.subject != subject:
                raise DataError(
                    f"{folder}: expected recordings of {shown(self._store.subject)}, got those of "
                    f"{shown(subject)}; choose another folder with --record"
                )
            mine, spec = self._store.facts, facts.spec()
            trial = _nothing(spec, mine.gestures, facts.unit)
            require_same_signal(
                [trial], replace(mine.spec(), gestures=mine.gestures), mine.unit, what=str(folder)
            )
        self.subject = self._store.subject

    def keep(self, recordings: Sequence[Recording], session: str, source: str) -> None:
        """Add a session, whole or not at all.

        Raises:
            DataError: It is there already, or is of another kind.
            OutputError: It cannot be written.
        """
        self._store.extend({session: recordings}, source)


def _nothing(spec: SignalSpec, gestures: tuple[str, ...], unit: str) -> Recording:
    signal = np.arange(2, dtype=np.float32)[:, None].repeat(spec.channels, axis=1)
    return Recording(
        "nobody", "none", signal, spec.sampling_rate, spec.electrodes, gestures, (), unit,
        source="the stream",
    )  # fmt: skip


class HandRecorder:
    """Gestures that are recorded by hand, one at a time, into one session.

    Args:
        spec: The signal, and the gestures.
        unit: Of the samples.
        subject: The person's name.
        session: Name of the session.

    Attributes:
        gesture: That is being recorded; None if none is.
        recordings: What is to be kept.
        session: As above.
    """

    def __init__(self, spec: SignalSpec, unit: str, subject: str, session: str) -> None:
        self.gesture: str | None = None
        self.recordings: list[Recording] = []
        self.session = session
        self._spec, self._unit, self._subject = spec, unit, subject
        self._parts: list[Signal] = []
        self._lead = 0

    @property
    def full(self) -> bool:
        """Whether it was recorded for as long as can be."""
        return self._count() >= LONGEST * self._spec.sampling_rate

    def start(self, gesture: str, lead: Signal) -> None:
        """Begin with a gesture.

        Args:
            gesture: One of the spec's.
            lead: Samples before, without a label, for filters to settle in.

        Raises:
            DataError: It is no gesture, or another one is being recorded.
        """
        if gesture not in self._spec.gestures:
            raise DataError(f"record: expected one of the gestures, got {shown(gesture)}")
        if self.gesture is not None:
            raise DataError(f"record: expected {shown(self.gesture)} to be over first")
        broken = np.flatnonzero(~np.isfinite(lead).all(axis=1))
        lead = lead[broken[-1] + 1 :] if len(broken) else lead
        self.gesture, self._parts, self._lead = gesture, [lead], len(lead)

    def take(self, samples: Signal) -> None:
        """Take the next samples of the stream."""
        if self.gesture is not None:
            self._parts.append(samples)

    def stop(self) -> None:
        """End the gesture, and keep it.

        Raises:
            DataError: None is being recorded, or it cannot be kept.
        """
        if self.gesture is None:
            raise DataError("record: expected to stop what is recorded, nothing is")
        name, self.gesture = self.gesture, None
        signal, count = np.concatenate(self._parts), self._count()
        self._parts = []
        if count < SHORTEST * self._spec.sampling_rate:
            raise DataError(f"record: expected {SHORTEST:g} s of {shown(name)} at least, got less")
        missing = int((~np.isfinite(signal).all(axis=1)).sum())
        if missing:
            raise DataError(
                f"record: {missing} samples of {shown(name)} are missing: it is not kept, record "
                f"it again"
            )
        label = self._spec.gestures.index(name)
        earlier = [one for one in self.recordings if one.annotations[0].gesture == label]
        note = Annotation(self._lead, len(signal), label, len(earlier))
        self.recordings.append(
            Recording(
                self._subject,
                self.session,
                signal,
                self._spec.sampling_rate,
                self._spec.electrodes,
                self._spec.gestures,
                (note,),
                self._unit,
                source=f"recorded by hand, {name}",
            )
        )

    def state(self) -> dict[str, object]:
        """Return what a page shows of it."""
        labels = [self._spec.gestures[one.annotations[0].gesture] for one in self.recordings]
        count = len(labels) if self.gesture is None else labels.count(self.gesture)
        return {
            "type": "record",
            "on": self.gesture is not None,
            "gesture": self.gesture,
            "session": self.session,
            "repetitions": count,
        }

    def _count(self) -> int:
        return sum(map(len, self._parts)) - self._lead
