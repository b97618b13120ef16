"""What a person is asked to perform, what they have performed, and the recordings of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from myodistill.datasets.recording import Annotation, Recording, Signal, SignalSpec
from myodistill.errors import DataError
from myodistill.evaluation.events import rest_of
from myodistill.live.verdicts import Verdict


class Step(NamedTuple):
    """One performance that is asked for: a gesture's label and its repetition, from 0."""

    gesture: int
    repetition: int


class Performance(NamedTuple):
    """One performance: the signal ``(time, channel)``, where its label begins, and the verdict."""

    signal: Signal
    start: int
    verdict: Verdict


@dataclass
class Performances:
    """The gestures of a guided calibration.

    Attributes:
        spec: The signal, and the gestures.
        repetitions: How often each gesture is performed.
        seed: Of the order.
        performed: What was performed, in the order performed.
    """

    spec: SignalSpec
    repetitions: int = 0
    seed: int = 0
    performed: dict[Step, Performance] = field(default_factory=dict)

    @property
    def resting(self) -> int | None:
        """Label of rest, if it is one of the gestures."""
        return rest_of(self.spec.gestures)

    def order(self) -> Iterator[Step]:
        """Yield all that is to be performed.

        In each repetition rest comes first, then the others in an order of their own, so that a
        gesture is not always performed after the same one.
        """
        random = np.random.default_rng(self.seed)
        others = [one for one in range(self.spec.classes) if one != self.resting]
        for repetition in range(self.repetitions):
            if self.resting is not None:
                yield Step(self.resting, repetition)
            for gesture in random.permutation(others).tolist():
                yield Step(gesture, repetition)

    def missing(self) -> list[Step]:
        """Return what was not performed, or not so that it can be learned from."""
        return [
            step
            for step in self.order()
            if step not in self.performed or not self.performed[step].verdict.usable
        ]

    def recordings(self, subject: str, session: str, unit: str) -> list[Recording]:
        """Return the performances of the complete repetitions, a recording each.

        Raises:
            DataError: Not every gesture was performed once.
        """
        complete = min((step.repetition for step in self.missing()), default=self.repetitions)
        if not complete:
            raise DataError(
                "guide: expected every gesture to be performed once, without missing samples and "
                "with all electrodes working; perform what is missing"
            )
        return [
            Recording(
                subject=subject,
                session=session,
                signal=one.signal,
                sampling_rate=self.spec.sampling_rate,
                electrodes=self.spec.electrodes,
                gestures=self.spec.gestures,
                annotations=(Annotation(one.start, len(one.signal), *step),),
                unit=unit,
                source=f"guided calibration, {self.spec.gestures[step.gesture]}",
            )
            for step, one in sorted(self.performed.items(), key=lambda pair: pair[0][::-1])
            if step.repetition < complete
        ]
