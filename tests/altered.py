"""A few generated people whose recordings, protocol and names tests alter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording
from myodistill.datasets.synthetic import Synthetic

Change = Callable[[list[Recording]], list[Recording]]

QUICK: dict[str, Any] = {
    "dataset": "altered",
    "fold": 1,
    "k": [0, 1],
    "teacher_model": ["population", "covariance"],
    "student_model": "log-power-10k",
    **{s: {"num_epochs": 1} for s in ("pretrain", "pretrain_student", "finetune", "distill")},
}


@cache
def generated(subject: int) -> tuple[Recording, ...]:
    people = Synthetic(subjects=8, seconds=0.6, repetitions=2)
    return tuple(people.recordings(f"Person{subject}"))


class Altered(Dataset):
    """Persons 1 to ``subjects``, of whom some may be reserved for training.

    Args:
        subjects: How many.
        reserved: How many of them train only; 0 for folds over all.
        changes: By name of a person, what is done to their recordings.
        facts: What is said otherwise of them.
    """

    def __init__(
        self,
        subjects: int = 5,
        *,
        reserved: int = 0,
        changes: dict[str, Change] | None = None,
        **facts: Any,
    ) -> None:
        self.facts = replace(Synthetic(seconds=0.6, repetitions=2).facts, **facts)
        self._count = subjects
        self._reserved = reserved
        self._changes = changes or {}

    def subjects(self) -> tuple[str, ...]:
        return tuple(f"Person{i + 1}" for i in range(self._count))

    def pretraining_only(self) -> tuple[str, ...]:
        return self.subjects()[: self._reserved]

    def recordings(self, subject: str) -> list[Recording]:
        facts = self.facts
        own = [
            replace(r, electrodes=facts.electrodes, gestures=facts.gestures)
            for r in generated(int(subject.removeprefix("Person")))
        ]
        return self._changes.get(subject, list)(own)


def in_session(session: str, change: Callable[[Recording], Recording]) -> Change:
    return lambda rs: [change(r) if r.session == session else r for r in rs]
