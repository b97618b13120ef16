"""A person without a population: their earlier days stand for people, or nobody does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Recording, Repetition
from myodistill.distillation.newcomer import Sessions, calibrated_on
from myodistill.distillation.population import NOBODY, Population, of_training, pretrain
from myodistill.distillation.subjects import SubjectPool
from myodistill.distillation.window_sets import Rehearsal
from myodistill.errors import BundleError, DataError, shown
from myodistill.models.orientation import orientations
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.splits import Split

FULL_HISTORY = 20
"""Days that the epochs of pre-training on a person's days are counted for."""
_DAY = "day"


def with_more_passes(settings: Settings, days: int) -> Settings:
    """Return settings by which fewer days than 20 are passed over as much more often."""
    changes: dict[str, object] = {}
    for name in ("pretrain", "pretrain_student"):
        stage = getattr(settings, name)
        epochs = math.ceil(stage.num_epochs * FULL_HISTORY / days)
        changes[name] = stage.model_copy(update={"num_epochs": epochs})
    return settings.model_copy(update=changes)


def own_facts(facts: Facts, recordings: Sequence[Recording]) -> Facts:
    """Return facts with the gestures that a person shows; the others nobody could teach.

    Raises:
        DataError: They show fewer than two.
    """
    performed = {one.gestures[note.gesture] for one in recordings for note in one.annotations}
    gestures = [name for name in facts.gestures if name in performed]
    gestures += sorted(performed - set(gestures))
    if len(gestures) < 2:
        raise DataError(
            f"calibrate: expected repetitions of at least 2 gestures, got {len(gestures)}; without "
            f"a population there is nothing else to learn from"
        )
    return replace(facts, gestures=tuple(gestures))


def require_own_labels(sessions: Sessions) -> None:
    """Refuse sessions that do not show everything that a person without a population needs.

    Raises:
        DataError: No repetition has labels that may be read, or a gesture none.
    """
    if not sessions.k and not sessions.names[:-1]:
        raise DataError(
            "calibrate: expected at least one repetition with labels, got none (k = 0); without a "
            "population there is nothing else to learn from"
        )
    if sessions.missing:
        raise DataError(
            f"calibrate: expected a repetition of {shown(', '.join(sessions.missing))} in what is "
            f"learned from, got none; without a population nobody else knows it: record it, or "
            f"take a larger k"
        )


class OwnDays(Dataset):
    """A person's sessions but the newest as a dataset, in which each is a subject."""

    def __init__(self, sessions: Sessions, facts: Facts) -> None:
        days = {name: day_of(sessions.subject, name) for name in sessions.names[:-1]}
        self._recordings: dict[str, list[Recording]] = {name: [] for name in days.values()}
        for one in sessions.recordings:
            if one.session in days:
                day = replace(one, subject=days[one.session], session=_DAY)
                self._recordings[day.subject].append(day)
        numbers = [
            n.repetition for d in self._recordings.values() for r in d for n in r.annotations
        ]
        self.facts = replace(
            facts,
            gestures=sessions.gestures,
            calibration_session=_DAY,
            test_sessions=(),
            repetitions=max(numbers, default=0) + 1,
        )
        self._identity = sessions.digest

    def subjects(self) -> tuple[str, ...]:
        """Return the days, in order."""
        return tuple(self._recordings)

    def recordings(self, subject: str) -> list[Recording]:
        """Return the recordings of one day."""
        self._check_subject(subject)
        return self._recordings[subject]

    def identity(self) -> str:
        """Return what tells these recordings from others."""
        return self._identity

    def split(self) -> Split:
        """Return the split in which every day trains."""
        facts = self.facts
        return Split(facts.name, 1, 1, self.subjects(), (), _DAY, (), facts.repetitions)


def day_of(person: str, session: str) -> str:
    """Return the name that a person's day has among their days; no person is called so."""
    return f"{person}-{session}"


def own_population(facts: Facts, sessions: Sessions, settings: Settings) -> Population:
    """Return the population of a person's own earlier sessions; of nobody where there is none.

    As in the protocol over days, each session stands for one person.

    Args:
        facts: Of the person's recordings.
        sessions: The person's; the newest is left alone.
        settings: Of the calibration to come.

    Raises:
        MyoDistillError: A setting is wrong, or training diverged.
    """
    days = OwnDays(sessions, facts)
    prints = DuplicateFinder(facts.samples)  # of nobody else
    if not days.subjects():
        rehearsal = Rehearsal({}, None, ())
        return Population(days.facts, days.split(), settings, NOBODY, (), {}, rehearsal, prints)
    longer = with_more_passes(settings, len(days.subjects()))
    return replace(pretrain(days, **of_training(longer)), identity=NOBODY, prints=prints)


def population_behind(bundle: Bundle, recordings: Sequence[Recording]) -> Population:
    """Return what a bundle that names no population is re-centred by: how its band lay.

    Args:
        bundle: Of a person who was calibrated alone.
        recordings: The person's; with a ring of electrodes also those that it learned from.

    Raises:
        BundleError: It was calibrated for no person.
        DataError: A session that it learned from is missing.
    """
    fitted, spec, origin = bundle.preprocessing, bundle.spec, bundle.origin
    if fitted is None:
        raise BundleError(f"{bundle.model}: expected a person's pre-processing, it has none yet")
    newest, subject = str(origin.get("session")), str(origin.get("subject"))
    facts = Facts(
        name=str(origin.get("dataset")), title=str(origin.get("dataset")), unit=bundle.unit,
        electrodes=spec.electrodes, sampling_rate=spec.sampling_rate, gestures=spec.gestures,
        samples=spec.samples, step=bundle.step, passband=fitted.passband, mains=fitted.mains,
        repetitions=1, calibration_session=newest, test_sessions=(),
        licence=str(origin.get("licence")), citation="", home="",
    )  # fmt: skip
    sessions = {one.session for one in bundle.seen}
    mine = [_only(one, bundle.seen) for one in recordings if one.subject == subject]
    order = dict.fromkeys(one.session for one in mine)
    learned = [name for name in order if name in sessions - {newest}] or [newest]
    alignment = None
    if len(orientations(spec.electrodes)) > 1:
        if lacking := sorted((sessions - {newest} or sessions) - set(order)):
            raise DataError(
                f"recalibrate: expected session {shown(lacking[0])} beside the new one, from which "
                f"the bundle knows how its electrodes lay, got none; give all of the person's"
            )
        known = calibrated_on(mine, spec.gestures, learned, 1)
        days = OwnDays(replace(known, names=(*learned, newest)), facts)
        found = SubjectPool(days, days.split(), recentre=True).alignment
        alignment = found and replace(found, seen=_own(found.seen, subject, learned))
    split = Split(facts.name, 1, 1, (), (), newest, (), 1)
    rehearsal, prints = Rehearsal({}, alignment, ()), DuplicateFinder(facts.samples)
    return Population(facts, split, Settings(), NOBODY, (), {}, rehearsal, prints)


def of_the_person(bundle: Bundle, sessions: Sessions) -> Bundle:
    """Return a bundle that calls a person's days their sessions again."""
    subject, days = sessions.subject, sessions.names[:-1]
    there = {
        Repetition(subject, one.session, note.repetition)
        for one in sessions.recordings
        for note in one.annotations
    }
    fitted = bundle.preprocessing
    if fitted is not None:
        fitted = replace(fitted, seen=_own(fitted.seen, subject, days) & there)
    return replace(
        bundle,
        seen=_own(bundle.seen, subject, days) & there,
        preprocessing=fitted,
        origin={**bundle.origin, "identity": sessions.digest},
    )


def _own(
    seen: frozenset[Repetition], person: str, sessions: Sequence[str]
) -> frozenset[Repetition]:
    """Return repetitions of days as those of their person's sessions."""
    days = {day_of(person, name): name for name in sessions}
    return frozenset(
        Repetition(person, days.get(one.subject, one.session), one.index) for one in seen
    )


def _only(recording: Recording, seen: frozenset[Repetition]) -> Recording:
    """Return a recording with annotations of some repetitions alone."""
    subject, session = recording.subject, recording.session
    notes = tuple(
        note
        for note in recording.annotations
        if Repetition(subject, session, note.repetition) in seen
    )
    return replace(recording, annotations=notes)
