"""The people of several datasets that were recorded alike, as one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Recording
from myodistill.errors import DataError, shown, unknown_name


class Union(Dataset):
    """The people of one or more datasets, but some.

    Sessions take the names that the first dataset gives them: each other's calibration session is
    called like its own, and so are the sessions that are scored.

    Args:
        datasets: At least one.
        exclude: People to leave out.

    Raises:
        DataError: They differ in electrodes, rate, unit, gestures or window, two have a person of
            the same name, or nobody is left.
    """

    def __init__(self, datasets: Sequence[Dataset], exclude: Sequence[str] = ()) -> None:
        first, *others = datasets
        for other in others:
            _require_alike(first.facts, other.facts)
        everybody = [name for dataset in datasets for name in dataset.subjects()]
        twice = [name for name in everybody if everybody.count(name) > 1]
        if twice:
            raise DataError(
                f"union: expected a name of their own for everybody, {shown(twice[0])} is in two "
                f"of the datasets; rename one"
            )
        for name in exclude:
            if name not in everybody:
                raise DataError(f"exclude: {unknown_name('person', name, everybody)}")
        self._datasets = tuple(datasets)
        self._exclude = frozenset(exclude)
        self.facts = replace(
            first.facts, repetitions=min(one.facts.repetitions for one in datasets)
        )
        if not self.subjects():
            raise DataError("exclude: expected somebody to be left, everybody is left out")

    def subjects(self) -> tuple[str, ...]:
        """Return everybody's names, dataset by dataset."""
        names = [name for dataset in self._datasets for name in dataset.subjects()]
        return tuple(name for name in names if name not in self._exclude)

    def recordings(self, subject: str) -> list[Recording]:
        """Return one person's recordings, under the first dataset's names of sessions."""
        self._check_subject(subject)
        mine = next(one for one in self._datasets if subject in one.subjects())
        mine.repair = self.repair
        names = _sessions(mine.facts, self.facts)
        return [
            replace(one, session=names.get(one.session, one.session))
            for one in mine.recordings(subject)
        ]

    def identity(self) -> str:
        """Return what tells these recordings from others."""
        return digest([one.identity() for one in self._datasets], sorted(self._exclude))


def _sessions(theirs: Facts, ours: Facts) -> dict[str, str]:
    names = {theirs.calibration_session: ours.calibration_session}
    return names | dict(zip(theirs.test_sessions, ours.test_sessions, strict=False))


def _traits(facts: Facts) -> dict[str, tuple[str, object]]:
    """Return what people of one population share: in words, and what is compared."""
    on = facts.electrodes
    low, high = facts.passband
    return {
        "electrodes": (
            f"{on.channels} in a {on.layout} of {on.rows}×{on.columns}",
            on.positions().tolist(),
        ),
        "sampling rate": (f"{facts.sampling_rate:g} Hz", None),
        "unit": (facts.unit, None),
        "gestures": (", ".join(facts.gestures), None),
        "window": (f"{facts.samples} samples every {facts.step}", None),
        "passband": (f"{low:g} to {high:g} Hz", None),
    }


def _require_alike(ours: Facts, theirs: Facts) -> None:
    there = _traits(theirs)
    for name, trait in _traits(ours).items():
        if trait != there[name]:
            raise DataError(
                f"union: expected the {name} of {ours.name} in {theirs.name}, too, "
                f"{shown(trait[0])}, got {shown(there[name][0])}; a population is of one kind"
            )
