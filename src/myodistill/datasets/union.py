"""The people of several datasets as one dataset, or some people of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Recording
from myodistill.datasets.trees import File
from myodistill.errors import DataError, shown, unknown_name
from myodistill.files import plain_names


class Union(Dataset):
    """The people of datasets that were recorded alike, under the first one's protocol.

    Sessions are called as in the first dataset: each one's calibration session, and its test
    sessions in their order. A test session that not all of them have is not scored, and
    everybody's repetitions are counted as far as all datasets have them.

    Args:
        datasets: One or more.
        exclude: People who are left out.

    Raises:
        DataError: The datasets differ in electrodes, rate, unit, gestures or windows; two have a
            person of the same name; nobody of that name can be left out, or nobody is left.
    """

    def __init__(self, datasets: Sequence[Dataset], exclude: Collection[str] = ()) -> None:
        if not datasets:
            raise DataError("union: expected at least one dataset, got none")
        first = datasets[0]
        for other in datasets[1:]:
            _require_alike(first.facts, other.facts)
        left_out = set(exclude)
        every = [subject for one in datasets for subject in one.subjects()]
        for name in sorted(left_out - set(every)):
            raise DataError(f"exclude: {unknown_name('subject', name, every)}")
        self._datasets = tuple(datasets)
        self._exclude = tuple(sorted(left_out))
        self._owner = {
            subject: one
            for one in datasets
            for subject in one.subjects()
            if subject not in left_out
        }
        if not self._owner:
            raise DataError(f"exclude: expected somebody to be left, all {len(every)} are excluded")
        kept = Counter(subject for subject in every if subject not in left_out)
        for subject in (name for name, count in kept.items() if count > 1):
            raise DataError(
                f"union: expected people with names of their own, two datasets have "
                f"{shown(subject)}; rename one, or exclude that name"
            )
        plain_names("subject", kept)
        self.facts = _facts([one.facts for one in datasets])

    @property
    def repair(self) -> bool:
        """Whether flat channels are filled in from their neighbours, in all of the datasets."""
        return all(one.repair for one in self._datasets)

    @repair.setter
    def repair(self, wanted: bool) -> None:
        for one in self._datasets:
            one.repair = wanted

    def subjects(self) -> tuple[str, ...]:
        """Return everybody's names, dataset by dataset."""
        return tuple(self._owner)

    def pretraining_only(self) -> tuple[str, ...]:
        """Return the people whom a dataset's protocol reserves for pre-training."""
        reserved = {name for one in self._datasets for name in one.pretraining_only()}
        return tuple(name for name in self._owner if name in reserved)

    def recordings(self, subject: str) -> list[Recording]:
        """Read one person's recordings, their sessions called as in the first dataset."""
        self._check_subject(subject)
        owner = self._owner[subject]
        first, recordings = self._datasets[0].facts, owner.recordings(subject)
        called = _called(first, owner.facts, dict.fromkeys(one.session for one in recordings))
        return [
            one if called[one.session] == one.session else replace(one, session=called[one.session])
            for one in recordings
        ]

    def files(self) -> list[File]:
        """Return the files of all datasets."""
        return [file for one in self._datasets for file in one.files()]

    def identity(self) -> str:
        """Return what tells these recordings from others: the datasets' own, and who is left."""
        facts = replace(self.facts, home="").to_dict()
        return digest([one.identity() for one in self._datasets], self._exclude, facts)


def _require_alike(first: Facts, other: Facts) -> None:
    for (wanted, value), (got, here) in zip(_traits(first), _traits(other), strict=True):
        if value != here:
            raise DataError(
                f"{other.name:.40}: expected recordings {wanted} as in {first.name:.40}, "
                f"got {got}; only datasets that were recorded alike can be joined"
            )


def _traits(facts: Facts) -> list[tuple[str, Any]]:
    """What must be the same: in words, and to compare."""
    on, (low, high) = facts.electrodes, facts.passband
    layout = f"a {on.rows}×{on.columns} {on.layout}"
    order = on.positions().tolist()
    return [
        (f"of {on.channels} channels", on.channels),
        (f"on {layout}", (on.layout, on.rows, on.columns)),
        (f"on {layout} in the order {shown(order, 50)}", order),
        (f"at {facts.sampling_rate:g} Hz", facts.sampling_rate),
        (f"in {shown(facts.unit, 20)}", facts.unit),
        (f"of the gestures {shown(list(facts.gestures), 70)}", facts.gestures),
        (f"cut into windows of {facts.samples} samples", facts.samples),
        (f"cut into windows every {facts.step} samples", facts.step),
        (f"filtered to {low:g}-{high:g} Hz", facts.passband),
    ]


def _facts(parts: Sequence[Facts]) -> Facts:
    """Return the first one's facts, with the others' names, licences and citations."""
    first = parts[0]

    def joined(key: str, by: str) -> str:
        return by.join(dict.fromkeys(str(getattr(one, key)) for one in parts))

    name = joined("name", "+")
    return replace(
        first,
        name=name if len(name.encode()) <= 100 else f"{first.name:.40} and {len(parts) - 1} more",
        title=joined("title", ", "),
        repetitions=min(one.repetitions for one in parts),
        test_sessions=first.test_sessions[: min(len(one.test_sessions) for one in parts)],
        licence=joined("licence", "; "),
        citation=joined("citation", "; "),
    )


def _called(first: Facts, own: Facts, sessions: Collection[str]) -> dict[str, str]:
    """Return what a dataset's sessions are called in the first one's words.

    A session that has no counterpart keeps its name, unless the first has that name for another.
    """
    words = (first.calibration_session, *first.test_sessions)
    known = dict(zip((own.calibration_session, *own.test_sessions), words, strict=False))
    called = {
        name: known.get(name) or (f"{own.name:.60} {name:.30}" if name in words else name)
        for name in sessions
    }
    if len(set(called.values())) < len(called):
        raise DataError(
            f"{own.name:.40}: expected sessions that can be called as in {first.name:.40}, got "
            f"{shown(list(sessions))}; rename those that have no counterpart"
        )
    return called
