"""A person who does not exist, for a page without a device: performs what the guide asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np

from myodistill.datasets.forearm import SYNERGIES
from myodistill.datasets.recording import Recording, Signal, SignalSpec
from myodistill.datasets.synthetic import GESTURES, Synthetic
from myodistill.evaluation.events import rest_of
from myodistill.realtime.sources import Chunk

SOURCE = "replay of generated muscles, as no --source is given"

_CHUNKS_A_SECOND = 50


def generated(spec: SignalSpec, *, seed: int = 0) -> list[Recording]:
    """Return recordings of a generated person with the electrodes and the rate of a signal.

    Gestures are those of the signal that can be generated, or the usual ones if these are fewer
    than two. The unit is µV, whatever the signal's.
    """
    known = [name for name in spec.gestures if name in SYNERGIES or rest_of([name]) == 0]
    names = list(dict.fromkeys("rest" if rest_of([name]) == 0 else name for name in known))
    people = Synthetic(
        subjects=1,
        electrodes=spec.electrodes,
        sampling_rate=spec.sampling_rate,
        gestures=names if len(names) > 1 else GESTURES,
        repetitions=3,
        mains=50.0 if spec.sampling_rate > 100 else spec.sampling_rate / 4,
        seed=seed,
    )
    return people.recordings("Person1")


class Performer:
    """Replays a person; where a guide asks for a gesture, they perform it, and rest between.

    Args:
        recordings: Of the person, with their annotations.
        spec: The signal.
        asked: Returns the gesture that is asked for, empty in a pause, None where none ever is.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        spec: SignalSpec,
        asked: Callable[[], str | None],
    ) -> None:
        self._recordings, self._asked, self._rest = recordings, asked, rest_of(spec.gestures)
        self._length = max(round(spec.sampling_rate / _CHUNKS_A_SECOND), 1)
        self._gestures = spec.gestures
        self._performed: dict[str, list[Signal]] = {}
        for one in recordings:
            resting = rest_of(one.gestures)
            for note in one.annotations:
                name = one.gestures[note.gesture]
                if note.gesture == resting and self._rest is not None:
                    name = spec.gestures[self._rest]
                self._performed.setdefault(name, []).append(one.signal[note.start : note.stop])

    def chunks(self) -> Iterator[Chunk]:
        """Yield the stream in chunks of 20 ms, without end."""
        number, free = 0, self._free()
        performed: str | None = None
        numbers, performance = count(), self._of(self._resting(), 0)
        while True:
            name = self._asked()
            if name is None:
                samples = next(free)
            else:
                name = name or self._resting()
                if name != performed:
                    performance = self._of(name, next(numbers))
                samples = next(performance)
            performed = name
            yield Chunk(samples, number=number)
            number += len(samples)

    def _resting(self) -> str:
        return self._gestures[self._rest or 0]

    def _free(self) -> Iterator[Signal]:
        while True:
            for one in self._recordings:
                yield from self._cut(one.signal)

    def _of(self, name: str, number: int) -> Iterator[Signal]:
        """Yield performances of a gesture, each time beginning with another one."""
        others = list(self._performed)
        other = others[self._gestures.index(name) % len(others)]  # for what cannot be generated
        performances = self._performed.get(name) or self._performed[other]
        while True:
            yield from self._cut(performances[number % len(performances)])
            number += 1

    def _cut(self, signal: Signal) -> Iterator[Signal]:
        for begin in range(0, len(signal), self._length):
            yield np.asarray(signal[begin : begin + self._length])
