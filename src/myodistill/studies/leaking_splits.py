"""Splits that leak, as they are published, and two honest ones beside them: for one study only.

None is a :class:`~myodistill.splits.Split`, so nothing that trains, scores, exports or reports an
honest run takes one. All score windows of the test sessions; they differ in what trains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from myodistill.datasets.recording import Repetition
from myodistill.errors import LeakageError, SettingsError
from myodistill.evaluation.leaking_results import HONEST
from myodistill.signals.windows import Indices, Windows
from myodistill.splits import Split, require_unseen

SCORED = 0.2
"""Share of a person's windows of the test sessions that a shuffled split scores."""
MOST = 8_000
"""Windows that train where people are pooled: as many as kernel methods take in seconds."""
_NONE: Indices = np.zeros(0, np.intp)


@dataclass(frozen=True)
class PersonPart:
    """What is done with some of a person's windows, by their indices.

    Attributes:
        train: Those that train, with labels.
        test: Those that are scored.
        unlabelled: Others that the person is re-centred by.
    """

    train: Indices
    test: Indices = field(default_factory=lambda: _NONE)
    unlabelled: Indices = field(default_factory=lambda: _NONE)


@dataclass(frozen=True)
class LeakingFold:
    """One training, and whom it is scored on.

    Attributes:
        split: Name of its split, one of :data:`~myodistill.evaluation.leaking_results.SPLITS`.
        parts: Of everybody who takes part.
    """

    split: str
    parts: Mapping[str, PersonPart]


def personal_folds(
    name: str, split: Split, person: str, windows: Windows, *, k: int, seed: int
) -> list[LeakingFold]:
    """Return the folds of a split within one person.

    Args:
        name: ``protocol``, ``repetition`` or ``random-windows``.
        split: Honest one that holds the person out: its sessions are used.
        person: Whose.
        windows: All of theirs.
        k: Repetitions that calibrate. A shuffled split trains on as many windows as these have.
        seed: Of what is shuffled.
    """
    if name == "protocol":
        train = _of(windows, split.calibration(person, k))
        parts = [PersonPart(train, _of(windows, split.test(person)))]
    elif name == "repetition":
        parts = list(_repetitions(split, person, windows, k))
    else:
        parts = [shuffled(split, person, windows, k=k, seed=seed)]
    return [LeakingFold(name, {person: part}) for part in parts]


def shuffled(split: Split, person: str, windows: Windows, *, k: int, seed: int) -> PersonPart:
    """Draw a fifth of the test sessions' windows to score, and as many as K repetitions to train.

    What trains is drawn from all other windows of the person: most overlap with a scored one.
    """
    rng = np.random.default_rng([seed, *person.encode()])
    candidates = _of(windows, split.test(person))
    test = np.sort(rng.permutation(candidates)[: max(1, round(SCORED * len(candidates)))])
    others = np.setdiff1d(np.arange(len(windows)), test)
    count = min(len(others), len(_of(windows, split.calibration(person, k))))
    return PersonPart(np.sort(rng.permutation(others)[:count]), test)


def pooled_fold(parts: Mapping[str, PersonPart], *, seed: int) -> LeakingFold:
    """Pool everybody's shuffled windows."""
    return LeakingFold("pooled-windows", _thinned(parts, seed))


def subject_fold(
    split: Split, scored: Collection[str], windows: Mapping[str, Windows], *, seed: int
) -> LeakingFold:
    """Train on other people alone; the first repetition, without labels, re-centres a new person.

    Args:
        split: Honest one.
        scored: Which of its held-out people.
        windows: Of everybody.
        seed: Of which windows train where there are too many.
    """
    others = {name: PersonPart(np.arange(len(windows[name]))) for name in split.pretraining}
    new = {
        name: PersonPart(
            _NONE,
            _of(windows[name], split.test(name)),
            _of(windows[name], split.unlabelled(name, 0)),
        )
        for name in scored
    }
    return LeakingFold("subject", {**_thinned(others, seed), **new})


def verdict(fold: LeakingFold, windows: Mapping[str, Windows]) -> str:
    """Ask the guard of honest runs: ``passes`` or ``refuses``.

    Raises:
        LeakageError: It refuses a split that is meant to be honest.
    """
    seen = _repetitions_of(fold, windows, "train") | _repetitions_of(fold, windows, "unlabelled")
    try:
        require_unseen(_repetitions_of(fold, windows, "test"), seen, what=f"{fold.split} split")
    except LeakageError:
        if fold.split not in HONEST:
            raise
        return "refuses"
    return "passes"


def _repetitions(split: Split, person: str, windows: Windows, k: int) -> Iterator[PersonPart]:
    """Hold out each repetition of each test session; the K after it train, in a circle."""
    count = split.repetitions
    if count < 2:
        raise SettingsError(
            f"split: expected at least 2 repetitions a session in {split.dataset} to hold one out, "
            f"got {count}; leave out 'repetition'"
        )
    for session in split.test_sessions:
        for held in range(count):
            after = [(held + 1 + turn) % count for turn in range(min(k, count - 1))]
            train = _of(windows, {Repetition(person, session, index) for index in after})
            yield PersonPart(train, _of(windows, {Repetition(person, session, held)}))


def _thinned(parts: Mapping[str, PersonPart], seed: int) -> dict[str, PersonPart]:
    """Draw as many windows to train as :data:`MOST`, the same share of everybody's."""
    share = min(1.0, MOST / max(1, sum(len(part.train) for part in parts.values())))
    thinned = {}
    for name, part in parts.items():
        rng = np.random.default_rng([seed, 1, *name.encode()])
        kept = rng.permutation(part.train)[: max(1, round(share * len(part.train)))]
        thinned[name] = PersonPart(np.sort(kept), part.test, part.unlabelled)
    return thinned


def _of(windows: Windows, repetitions: Collection[Repetition]) -> Indices:
    """Return the indices of the windows of some repetitions."""
    mine = np.array([repetition in repetitions for repetition in windows.repetitions])
    return np.flatnonzero(mine[windows.repetition_index])


def _repetitions_of(
    fold: LeakingFold, windows: Mapping[str, Windows], role: str
) -> frozenset[Repetition]:
    return frozenset(
        repetition
        for name, part in fold.parts.items()
        for repetition in windows[name].take(getattr(part, role)).seen()
    )
