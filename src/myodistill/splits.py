"""Who trains, who calibrates with what, what is scored; and the guard that keeps them apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from myodistill.config import CrossValidation
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Repetition
from myodistill.errors import LeakageError, SettingsError, Wanted
from myodistill.readers import read_json
from myodistill.signals.windows import Indices, Windows
from myodistill.validation import checked

FOLDS = 5
_WANTED = Wanted("a split", advice="remove it and run again")
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Split:
    """One fold: an immutable artefact, the same on every machine, known by its hash.

    Attributes:
        dataset: Name of the dataset.
        fold: From 1.
        folds: How many there are.
        pretraining: Subjects whose every repetition may train teachers.
        heldout: Subjects who calibrate and are scored.
        calibration_session: The session whose first K repetitions calibrate.
        test_sessions: The sessions that are scored, whole.
        repetitions: Repetitions in every session.
        history: Earlier sessions of the held-out subjects, whose every repetition calibrates, too.

    Raises:
        LeakageError: A session that calibrates is scored, or a subject is trained on and held out.
        SettingsError: Something is named twice.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # of a split that is read
    uses_unlabelled: ClassVar[bool] = True
    """Whether a held-out subject is re-centred at K = 0, by unlabelled windows of their own."""

    dataset: str
    fold: Count
    folds: Count
    pretraining: tuple[str, ...]
    heldout: tuple[str, ...]
    calibration_session: str
    test_sessions: tuple[str, ...]
    repetitions: Count
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        calibrating = (self.calibration_session, *self.history)
        if both := set(self.test_sessions).intersection(calibrating):
            raise LeakageError(
                f"leakage: expected test sessions without the calibration session, "
                f"{self.dataset} names '{min(both):.40}' as both; score another"
            )
        if both := set(self.pretraining) & set(self.heldout):
            raise LeakageError(
                f"leakage: expected held-out subjects that nobody trains on, {min(both):.40} of "
                f"{self.dataset} is in both groups; leave them out of one"
            )
        for what in ("pretraining", "heldout", "test_sessions", "history"):
            names = getattr(self, what)
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise SettingsError(
                    f"{self.dataset}: expected each of {what} once, '{twice:.40}' is named twice"
                )

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the split's JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the canonical JSON."""
        values = asdict(self)
        if not self.history:  # as splits were written before there was any
            del values["history"]
        return json.dumps(values, sort_keys=True, ensure_ascii=False, indent=1)

    def narrowed(self, subject: str | None = None) -> Split:
        """Return the split as it concerns one held-out subject, or no more than the teachers."""
        return replace(self, heldout=() if subject is None else (subject,))

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a split that was saved with :meth:`to_json`.

        Raises:
            DataError: The file cannot be read or is no split.
        """
        return checked(TypeAdapter(cls), read_json(path, _WANTED), path, _WANTED)

    def calibration(self, subject: str, k: int) -> frozenset[Repetition]:
        """Return the first ``k`` repetitions of the calibration session.

        Raises:
            SettingsError: ``k`` is not between 1 and the repetitions that there are.
        """
        if not 1 <= k <= self.repetitions:
            raise SettingsError(
                f"k: expected 1 to {self.repetitions} calibration repetitions, got {k}"
            )
        return frozenset(Repetition(subject, self.calibration_session, i) for i in range(k))

    def unlabelled(self, subject: str, k: int) -> frozenset[Repetition]:
        """Return what re-centring may use: the calibration repetitions, at K = 0 the first."""
        return self.calibration(subject, max(k, 1))

    def test(self, subject: str) -> frozenset[Repetition]:
        """Return all repetitions of the test sessions."""
        return frozenset(
            Repetition(subject, session, i)
            for session in self.test_sessions
            for i in range(self.repetitions)
        )


@dataclass(frozen=True)
class BlindSplit(Split):
    """A fold in which nothing of a held-out subject is used at K = 0, not even unlabelled."""

    uses_unlabelled: ClassVar[bool] = False

    def to_json(self) -> str:
        """Return the canonical JSON, in which the split owns to its kind."""
        return json.dumps(
            {**asdict(self), "blind": True}, sort_keys=True, ensure_ascii=False, indent=1
        )

    def unlabelled(self, subject: str, k: int) -> frozenset[Repetition]:
        """Return the calibration repetitions; at K = 0 none."""
        return self.calibration(subject, k) if k else frozenset()


def make_split(dataset: Dataset, fold: int, cross_validation: CrossValidation = "5-fold") -> Split:
    """Return fold ``fold`` of a dataset.

    Subjects are dealt to five folds in natural order, or each to a fold of their own; a dataset
    that reserves subjects for pre-training has the one fold that its protocol says.

    Raises:
        SettingsError: There is no such fold, there are too few subjects to train on others, or the
            dataset's protocol leaves no choice of cross-validation.
    """
    facts = dataset.facts
    reserved = dataset.pretraining_only()
    subjects = dataset.subjects()
    alone = cross_validation == "leave-one-subject-out"
    if reserved and alone:
        raise SettingsError(
            f"cross_validation: expected 5-fold for {facts.name}, whose protocol says who "
            f"pre-trains, got {cross_validation}"
        )
    folds = 1 if reserved else len(subjects) if alone else min(FOLDS, len(subjects))
    if len(subjects) < 2:
        raise SettingsError(
            f"{facts.name}: expected at least 2 subjects, as teachers learn from other people, "
            f"got {len(subjects)}"
        )
    if not 1 <= fold <= folds:
        raise SettingsError(f"fold: expected 1 to {folds} for {facts.name}, got {fold}")
    if not facts.test_sessions:
        raise SettingsError(
            f"{facts.name}: expected at least one session to score beside "
            f"'{facts.calibration_session:.40}', there is none; name test_sessions"
        )
    if reserved:
        pretraining, heldout = reserved, tuple(s for s in subjects if s not in reserved)
    else:
        heldout = subjects[fold - 1 :: folds]
        pretraining = tuple(s for s in subjects if s not in heldout)
    return Split(
        dataset=facts.name,
        fold=fold,
        folds=folds,
        pretraining=pretraining,
        heldout=heldout,
        calibration_session=facts.calibration_session,
        test_sessions=facts.test_sessions,
        repetitions=facts.repetitions,
    )


def nested(split: Split) -> Split:
    """Return a split of the training subjects alone: every third is held out, to tune on.

    The subjects that ``split`` holds out are not in it at all.

    Raises:
        SettingsError: There are fewer than 3 training subjects.
    """
    people = split.pretraining
    if len(people) < 3:
        raise SettingsError(
            f"tune: expected at least 3 training subjects in {split.dataset}, of whom some are "
            f"held out in their turn, got {len(people)}"
        )
    heldout = people[::3]
    return replace(split, pretraining=tuple(p for p in people if p not in heldout), heldout=heldout)


def require_unseen(
    scored: Collection[Repetition], seen: Collection[Repetition], *, what: str
) -> None:
    """Refuse to score repetitions that something has been fitted on.

    Args:
        scored: What is about to be scored.
        seen: What ``what`` was fitted on.
        what: What was fitted, for the message: ``"teacher"``, ``"re-centring"``, ...

    Raises:
        LeakageError: The two overlap; the message names the repetitions.
    """
    shared = sorted(set(scored) & set(seen))
    if shared:
        names = ", ".join(map(str, shared[:3])) + (", ..." if len(shared) > 3 else "")
        raise LeakageError(
            f"leakage: expected test repetitions that the {what} never saw, it was fitted on "
            f"{len(shared)} of them ({names}); score it on other repetitions"
        )


def unseen_windows(
    split: Split,
    windows: Windows,
    subject: str,
    fitted: Iterable[tuple[str, Collection[Repetition]]],
) -> tuple[Windows, Indices]:
    """Return the windows that a held-out subject is scored on; every score takes them from here.

    Args:
        split: Of the fold.
        windows: Of the subject.
        subject: Who is scored.
        fitted: What decides: each part's name, and the repetitions that it was fitted on.

    Returns:
        The windows, and their indices in ``windows``.

    Raises:
        LeakageError: Something was fitted on one of their repetitions.
        DataError: A test repetition has no window.
        SettingsError: The split scores nothing.
    """
    test = split.test(subject)
    if not test:
        raise SettingsError(
            f"{split.dataset}: expected a session to score, the split has none; name test_sessions"
        )
    for what, seen in fitted:
        require_unseen(test, seen, what=what)
    mine = np.array([repetition in test for repetition in windows.repetitions])
    return windows.select(test), np.flatnonzero(mine[windows.repetition_index])
