"""A person's few days, generated: an armband of four channels, put on again every day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Annotation, Recording, ring

Change = Callable[[Recording], Recording]
TRIALS = 3

QUICK: dict[str, Any] = {
    "dataset": "few-days",
    "k": [0, 1],
    "teacher_model": ["population", "covariance"],
    "student_model": "log-power-10k",
    "pretrain": {"num_epochs": 1},
    "pretrain_student": {"num_epochs": 1},
    "finetune": {"num_epochs": 1},
    "distill": {"num_epochs": 2},
}


def relabelled(recording: Recording) -> Recording:
    """Give a recording the next gesture's label."""
    count = len(recording.gestures)
    notes = [replace(n, gesture=(n.gesture + 1) % count) for n in recording.annotations]
    return replace(recording, annotations=tuple(notes))


class FewDays(Dataset):
    """One recording for each trial of each gesture, or one for each day.

    Args:
        days: How many.
        people: How many.
        whole: Whether a day is a single recording.
        changes: By day and trial, from 1, what is done to their recordings.
        facts: What is said otherwise.
    """

    def __init__(
        self,
        days: int = 4,
        people: int = 2,
        *,
        whole: bool = False,
        changes: Mapping[tuple[int, int], Change] | None = None,
        **facts: Any,
    ) -> None:
        self._count, self._people, self._whole = days, people, whole
        self._changes = changes or {}
        self.facts = replace(
            Facts(
                name="few-days",
                title="Few days",
                electrodes=ring(4),
                sampling_rate=200.0,
                gestures=("rest", "fist", "open"),
                unit="counts",
                samples=52,
                step=26,
                passband=(5.0, 96.0),
                mains=50.0,
                repetitions=TRIALS,
                calibration_session="day1",
                test_sessions=tuple(f"day{number}" for number in range(2, days + 1)),
                licence="none",
                citation="none",
                home="none",
            ),
            **facts,
        )

    def subjects(self) -> tuple[str, ...]:
        return tuple(f"P{number + 1}" for number in range(self._people))

    def recordings(self, subject: str) -> list[Recording]:
        takes: list[Recording] = []
        for day in range(1, self._count + 1):
            parts = [
                change(part) if (change := self._changes.get((day, trial))) else part
                for trial in range(1, TRIALS + 1)
                for gesture in range(len(self.facts.gestures))
                for part in (self._trial(subject, day, trial, gesture),)
            ]
            takes += [joined(parts)] if self._whole else parts
        return takes

    def _trial(self, subject: str, day: int, trial: int, gesture: int) -> Recording:
        rng = np.random.default_rng([self.subjects().index(subject), day, trial, gesture])
        signal = rng.standard_normal((260, 4)) * (1 + 0.1 * day)
        signal[:, gesture] *= 4
        notes = (Annotation(0, 260, gesture, trial - 1),)
        return self._make(subject, f"day{day}", signal.astype(np.float32), notes, f"d{day}t{trial}")


def joined(parts: list[Recording]) -> Recording:
    """Put the recordings of a day end to end."""
    begin, notes = 0, []
    for part in parts:
        (note,) = part.annotations
        end = begin + len(part.signal)
        notes.append(replace(note, start=begin, stop=end))
        begin = end
    signal = np.concatenate([part.signal for part in parts])
    return replace(parts[0], signal=signal, annotations=tuple(notes))
