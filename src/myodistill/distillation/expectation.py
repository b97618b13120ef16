"""The accuracy to expect of a person's decoder, before they use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from myodistill.config import Settings
from myodistill.datasets.recording import Recording, Repetition
from myodistill.distillation.calibration import Calibration
from myodistill.distillation.model_card import Expected
from myodistill.distillation.newcomer import Sessions
from myodistill.distillation.population import Population
from myodistill.signals.windows import Windows
from myodistill.splits import require_unseen


@dataclass(frozen=True)
class LeftOut:
    """Repetitions of the newest session, each decided by a student that calibrated on the others.

    Attributes:
        k: Repetitions of the session that each of these students calibrated on.
        accuracies: Share of windows decided right, one a repetition.
        logits: Of all windows, shape ``(window, gesture)``.
        labels: Gesture of each window.
    """

    k: int
    accuracies: tuple[float, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.intp]

    @property
    def mean(self) -> float:
        """Mean over repetitions."""
        return float(np.mean(self.accuracies))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean over repetitions, by Student's t."""
        error = stats.sem(self.accuracies)
        half = float(stats.t.ppf(0.975, len(self.accuracies) - 1) * error)
        return max(self.mean - half, 0.0), min(self.mean + half, 1.0)


def leave_one_repetition_out(
    people: Population, sessions: Sessions, settings: Settings, names: tuple[str, str]
) -> LeftOut:
    """Calibrate without each repetition of the newest session in turn, and decide that one.

    Args:
        people: The population.
        sessions: The person's, with at least two repetitions of the newest.
        settings: Of calibration.
        names: Model and loss of the student.

    Raises:
        MyoDistillError: As :func:`~myodistill.calibrate`.
    """
    accuracies, logits, labels = [], [], []
    for index in range(sessions.k):
        part = _with_last(sessions, index)
        calibration = Calibration.of(people, part, settings)
        bundle = calibration.bundle(names)
        left = Repetition(sessions.subject, sessions.names[-1], part.k)
        require_unseen({left}, bundle.seen, what=f"student {bundle.model}")
        windows = calibration.fold.data.subject(sessions.subject, part.k).filtered().select({left})
        decided = bundle.logits(windows)
        accuracies.append(float((decided.argmax(axis=1) == windows.labels).mean()))
        logits.append(decided)
        labels.append(windows.labels)
    return LeftOut(
        sessions.k - 1, tuple(accuracies), np.concatenate(logits), np.concatenate(labels)
    )


def of_population(people: Population, k: int) -> Expected | None:
    """Return what people whom the population's recipe held out reached by so many repetitions."""
    return next((one for one in people.expected if one.k == k), None)


def calibration_windows(calibration: Calibration) -> Windows:
    """Return the filtered windows of the newest session that a person calibrated on."""
    sessions = calibration.sessions
    subject = calibration.fold.data.subject(sessions.subject, sessions.k)
    return subject.filtered().select(subject.fitted_on)


def _with_last(sessions: Sessions, index: int) -> Sessions:
    """Return sessions of which one repetition comes last, and is not calibrated on."""
    last = sessions.k - 1

    def number(repetition: int) -> int:
        if repetition == index:
            return last
        return repetition - (index < repetition <= last)

    def renumbered(recording: Recording) -> Recording:
        if recording.session != sessions.names[-1]:
            return recording
        notes = tuple(
            replace(note, repetition=number(note.repetition)) for note in recording.annotations
        )
        return replace(recording, annotations=notes)

    recordings: Sequence[Recording] = [renumbered(one) for one in sessions.recordings]
    return replace(sessions, recordings=tuple(recordings), k=last)
