"""A person who is in no dataset: from a few repetitions and a population to a bundle."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Recording, SignalSpec
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.alone import (
    of_the_person,
    own_facts,
    own_population,
    population_behind,
    require_own_labels,
)
from myodistill.distillation.data import FoldData, placed
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.distillation.new_gestures import widened
from myodistill.distillation.newcomer import Newcomer, Sessions, of_one, sessions_of
from myodistill.distillation.population import NOBODY, Population
from myodistill.distillation.subjects import recentre
from myodistill.errors import BundleError, SettingsError, shown, unknown_name
from myodistill.models.registry import models
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.training.loop import NO_PATHS
from myodistill.training.losses import require_loss

_log = logging.getLogger(__name__)
_OF_CALIBRATION = (
    *("finetune", "distill", "alpha", "temp", "temperature", "feature_weight", "teacher_merge"),
    *("newest_share", "calibrate_teachers", "device", "precision", "compile", "channels_last"),
)
"""Settings that a population does not fix."""
_ALONE = ("teacher_model", "pretrain", "pretrain_student", "augmentation", "views")
"""Those that are free besides where there is no population."""


def calibrate(
    population: Population | Path | str | None,
    recordings: Sequence[Recording] | Dataset | Path | str,
    *,
    k: int | None = None,
    student_model: str | None = None,
    loss: str | None = None,
    **settings: Any,
) -> Bundle:
    """Make the bundle of a person who is in no dataset, from a few of their repetitions.

    Exactly what an experiment does for a person whom it holds out: the teachers are fine-tuned to
    the person, and the student learns from them on the person's windows and on everybody's.
    Earlier sessions of the person calibrate with the newest, each in a frame of its own.

    Args:
        population: The population, or its folder; None to learn from the person alone, which needs
            labels of every gesture.
        recordings: Of one person, raw, the oldest session first, recorded as the population's:
            same rate, unit and electrodes. Or a dataset of one person (a subject store), or the
            path of one, whose test sessions are left alone. A gesture that the population does not
            know is learned from the person alone. Without a population a dataset or a path, which
            says what a window is.
        k: Repetitions of the newest session to calibrate by, the first ones; all that there are by
            default. 0 re-centres by the first repetition, or by a recording without annotations,
            and reads no label of the session.
        student_model: One of the population's, its first by default; any without a population.
        loss: One of the population's, its first by default; any without a population.
        settings: Other options than the population's of ``finetune`` and ``distill``, or
            ``alpha``, ``temp``, ``device``: ``distill={"num_epochs": 100}``; without one also
            ``teacher_model``, ``augmentation`` and ``views``.

    Returns:
        The bundle: it predicts, saves, exports, and is what a decoder runs.

    Raises:
        DataError: The recordings are of several people, were recorded otherwise, have too few
            gestures or repetitions, or an electrode is flat or saturated.
        LeakageError: The recordings are in the population already, or twice in the person's own.
        MyoDistillError: The population is damaged, a setting is wrong, or training diverged.

    Example:
        >>> bundle = calibrate("populations/3dc", recordings, k=1)
        >>> bundle.save(Path("bundles/anna"))
    """
    known = Population.load(population) if isinstance(population, str | Path) else population
    student = student_of(known, student_model, loss)
    chosen = calibration_settings(known, settings, student)
    dataset = open_dataset(str(recordings)) if isinstance(recordings, str | Path) else recordings
    mine = of_one(dataset) if isinstance(dataset, Dataset) else dataset
    if known is not None:
        facts = known.facts
    elif isinstance(dataset, Dataset):
        facts = dataset.facts
    else:
        raise SettingsError(
            f"calibrate: expected a dataset or the path of one, which says how long a window is, "
            f"as there is no population that does, got {shown(dataset)}; give one"
        )
    sessions = person_sessions(known, mine, facts, k)
    if sessions.missing:
        _log.warning(
            "calibrate: no repetition of %s: decided by what other people do",
            shown(", ".join(sessions.missing)),
        )
    people = known or own_population(facts, sessions, chosen)
    made = Calibration.of(people, sessions, chosen).bundle(student)
    made.origin["opened"] = str(recordings) if isinstance(recordings, str | Path) else "memory"
    return made


def recalibrate(
    bundle: Bundle | Path | str,
    population: Population | Path | str | None,
    recordings: Sequence[Recording] | Dataset | Path | str,
) -> Bundle:
    """Re-centre a person's bundle to electrodes that were put on again, without labels.

    Takes a second where :func:`calibrate` takes many: no weight changes, only the map of channels
    and the re-centring of bands. With a labelled repetition of the day, calibrate instead.

    Args:
        bundle: The person's bundle, or its folder.
        population: That it was calibrated from, or its folder; None if there was none. Then the
            recordings must hold the sessions that the bundle learned from as well.
        recordings: Of the newest session, raw; its first repetition is used, or all of a recording
            without annotations. No label is read.

    Returns:
        A new bundle; the old one is as it was.

    Raises:
        BundleError: The bundle is of another person, or of another population.
        DataError: The recordings are of several people or were recorded otherwise.
        MyoDistillError: The bundle or the population is damaged.

    Example:
        >>> today = recalibrate("bundles/anna", "populations/3dc", ten_seconds)
    """
    worn = bundle if isinstance(bundle, Bundle) else Bundle.load(Path(bundle))
    dataset = open_dataset(str(recordings)) if isinstance(recordings, str | Path) else recordings
    mine = of_one(dataset) if isinstance(dataset, Dataset) else dataset
    known = Population.load(population) if isinstance(population, str | Path) else population
    behind = NOBODY if known is None else known.hash
    if worn.origin.get("population") != behind:
        raise BundleError(
            f"{worn.model}: expected a bundle that was calibrated from population {behind}, "
            f"got one of {shown(worn.origin.get('population'), 20)}; give that population"
        )
    people = population_behind(worn, mine) if known is None else known
    sessions = sessions_of(mine, people.facts, people.subjects, 0)
    if sessions.subject != worn.origin.get("subject"):
        raise BundleError(
            f"{worn.model}: expected recordings of {shown(worn.origin.get('subject'))}, whose "
            f"bundle it is, got those of {shown(sessions.subject)}; calibrate for them"
        )
    _require_no_copy(people.prints, sessions)
    today = replace(sessions.newest(), gestures=worn.spec.gestures)
    data = Calibration.of(people, today, people.settings).fold.data
    subject = data.subject(today.subject, 0)
    network = placed(copy.deepcopy(worn.network), people.settings)
    recentre(network, subject)
    return replace(
        worn,
        network=network.eval(),
        preprocessing=subject.preprocessing,
        seen=worn.seen | subject.preprocessing.seen,
        origin={**worn.origin, "recentred": today.names[-1]},
    )


@dataclass(frozen=True, eq=False)
class Calibration:
    """A person's sessions beside a population, ready to calibrate."""

    people: Population
    sessions: Sessions
    fold: DistillationPipeline

    @classmethod
    def of(cls, people: Population, sessions: Sessions, settings: Settings) -> Calibration:
        """Put a person beside a population; they are held out, everybody else trains.

        Without a population their earlier sessions are in the place of everybody else.
        """
        worn = sessions.newest() if people.alone else sessions
        dataset = Newcomer(worn, people.facts)
        split = replace(
            people.split,
            heldout=(sessions.subject,),
            calibration_session=dataset.facts.calibration_session,
            test_sessions=(),
            repetitions=dataset.facts.repetitions,
            history=worn.names[:-1],
        )
        data = FoldData(dataset, split, settings, rehearsal=people.rehearsal)
        return cls(people, sessions, DistillationPipeline(data, settings, settings.seed[0]))

    def bundle(self, names: tuple[str, str]) -> Bundle:
        """Fine-tune the teachers and distill one student, by model and loss."""
        model, loss = names
        sessions, fold = self.sessions, self.fold
        subject, k = sessions.subject, sessions.k
        student = None
        if self.people.students:
            known = [self._teacher(teacher, fold.spec) for teacher in self.people.teachers]
            student = widened(self.people.students[names], fold.spec)
            if student is None:  # its width hangs on the number of gestures: it learns anew
                student = fold.pretrain_student(model, known, NO_PATHS, loss=loss)
        else:
            known = [fold.untrained(teacher) for teacher in fold.settings.teacher_model]
        teachers = [fold.finetune(teacher, subject, k, NO_PATHS) for teacher in known]
        made = fold.distill(StudentSpec(model, student, teachers, subject, k, loss), NO_PATHS)
        made.origin["population"] = self.people.hash
        made.origin["session"] = sessions.names[-1]
        return of_the_person(made, sessions) if self.people.alone else made

    def _teacher(self, teacher: Bundle, spec: SignalSpec) -> Bundle:
        """Return a teacher that has room for the person's gestures."""
        wide = widened(teacher, spec)
        return self.fold.pretrain(teacher.model, NO_PATHS) if wide is None else wide


def calibration_settings(
    people: Population | None, settings: Mapping[str, Any], student: tuple[str, str]
) -> Settings:
    """Return a population's settings, or the defaults, with some that calibration may change.

    Raises:
        SettingsError: One of them is fixed, or a value is not allowed.
    """
    free: Sequence[str] = _OF_CALIBRATION
    values = (people.settings if people else Settings()).model_dump()
    if people is None:
        free = (*free, *_ALONE)
        values |= {"student_model": [student[0]], "loss": [student[1]]}
    for name, value in settings.items():
        if name not in free:
            raise SettingsError(
                f"{shown(name)}: expected an option of calibration ({', '.join(free[:3])}, ...), "
                f"{'others are' if people is None else 'the population has the others'} fixed; "
                f"leave it out"
            )
        nested = isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
        values[name] = {**values[name], **value} if nested else value
    return Settings.load(values)


def student_of(people: Population | None, model: str | None, loss: str | None) -> tuple[str, str]:
    """Return model and loss of one of a population's students, its first by default.

    Raises:
        SettingsError: It has no such student, or there is no such student or loss at all.
    """
    settings = people.settings if people else Settings()
    names = model or settings.student_model[0], loss or settings.loss[0]
    if people is None:
        if names[0] not in (known := models(role="student")):
            raise SettingsError(unknown_name("student", names[0], known))
        require_loss(names[1], 2)
    elif names not in people.students:
        pairs = [" with ".join(pair) for pair in people.students]
        raise SettingsError(unknown_name("student of the population", " with ".join(names), pairs))
    return names


def person_sessions(
    people: Population | None, recordings: Sequence[Recording], facts: Facts, k: int | None
) -> Sessions:
    """Return a person's sessions, if they are fit to calibrate on.

    Args:
        people: The population; None where the person is alone.
        recordings: The person's, raw, the oldest session first.
        facts: Of these recordings; of the population where there is one.
        k: Repetitions of the newest session whose labels are used; None for all.

    Raises:
        DataError: They are not.
        LeakageError: A recording is in the population, or is there twice.
    """
    if people is None:
        facts = own_facts(facts, recordings)
    sessions = sessions_of(recordings, facts, people.subjects if people else (), k)
    if people is None:
        require_own_labels(sessions)
    _require_no_copy(people.prints if people else DuplicateFinder(facts.samples), sessions)
    return sessions


def _require_no_copy(known: DuplicateFinder, sessions: Sessions) -> None:
    """Refuse recordings that are in a population already, or twice among a person's own."""
    prints = known.copy()
    prints.add(sessions.recordings)
    prints.require_none()
